/** As docker shows the name of an image: what is the same for most names is left out. */
export function shortName(name: string): string {
  return name.replace(/^docker\.io\/(library\/)?/, '');
}

/** As docker shows the id of an image: twelve of its digits. */
export function shortId(id: string): string {
  return id.slice(id.indexOf(':') + 1).slice(0, 12);
}
