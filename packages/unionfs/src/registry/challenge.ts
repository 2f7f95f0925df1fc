/** What a registry wants of who asks, see WWW-Authenticate in RFC 9110. */
export interface Challenge {
  /** Lowercase: `basic`, `bearer`. */
  scheme: string;
  parameters: Map<string, string>;
}

const LONGEST = 8192;

/**
 * Takes the challenges of a header apart.
 *
 * @param header - its value
 * @returns challenges in their order; what cannot be read is left out
 */
export function parseChallenges(header: string): Challenge[] {
  const challenges: Challenge[] = [];
  const token = /[!#$%&'*+.^_`|~A-Za-z0-9-]+/y;
  const value = /"((?:[^"\\]|\\.)*)"|([^\s,"]+)/y;
  const text = header.slice(0, LONGEST);
  let at = 0;
  const skip = (characters: string) => {
    while (at < text.length && characters.includes(text[at] as string)) at++;
  };
  while (at < text.length) {
    skip(' \t,');
    token.lastIndex = at;
    const name = token.exec(text)?.[0];
    if (!name) break;
    at += name.length;
    const current = challenges.at(-1);
    const before = at;
    skip(' \t');
    if (text[at] !== '=' || !current) {
      at = before;
      challenges.push({ scheme: name.toLowerCase(), parameters: new Map() });
      continue;
    }
    at++;
    skip(' \t');
    value.lastIndex = at;
    const match = value.exec(text);
    if (!match) break;
    at += match[0].length;
    current.parameters.set(name.toLowerCase(), match[1]?.replace(/\\(.)/g, '$1') ?? match[2] ?? '');
  }
  return challenges;
}
