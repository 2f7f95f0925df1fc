/** What tells a terminal what to do: C0 and C1 controls, DEL, and what turns the direction of text around. */
const controls = /[\p{Cc}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu;

/**
 * A text of somebody else's, of an image or a container, that does nothing to the terminal that shows it. Escapes are JSON's: what was JSON
 * means the same.
 *
 * @param text - as it came
 * @param kept - characters that stay; default line ends and tabs, by which lists are laid out
 * @returns for example `\u001b[2J` in six and three visible characters
 */
export function printable(text: string, kept = '\n\t'): string {
  return text.replace(controls, (character) =>
    kept.includes(character) ? character : `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
