import { UsageError } from '../options.js';

/** Piece of a template: text, what is printed, or a block. */
type Node =
  | { kind: 'text'; text: string }
  | { kind: 'print'; expression: string }
  | { kind: 'range' | 'if'; expression: string; body: Node[]; otherwise: Node[] };

/**
 * Renders a template in the part of Go's language that is used with docker: fields (`{{.State.Status}}`), `json`, `index`, `len`, `upper`,
 * `lower`, `join`, `println`, pipes, `{{range}}`, `{{if}}`, `{{else}}`, `{{end}}`.
 *
 * @param template - as typed
 * @param data - what its fields are looked up in
 * @returns the text
 * @throws {@link UsageError} for what is no template, and for fields that are not there
 */
export function render(template: string, data: unknown): string {
  return print(nodesOf(template), data);
}

/**
 * Refuses what is no template, also where there is nothing to render.
 *
 * @param template - as typed
 * @throws {@link UsageError}
 */
export function checkTemplate(template: string): void {
  nodesOf(template);
}

function nodesOf(template: string): Node[] {
  const tokens = template.split(/(\{\{.*?\}\})/s).filter((token) => token !== '');
  const open = tokens.find((token) => token.includes('{{') && !token.endsWith('}}'));
  if (open !== undefined) throw new UsageError(`a {{ of the format has no }}: ${JSON.stringify(open.slice(0, 40))}`);
  return parse(tokens, 0, false).nodes;
}

function parse(tokens: readonly string[], from: number, inside: boolean): { nodes: Node[]; next: number; end: string } {
  const nodes: Node[] = [];
  for (let i = from; i < tokens.length; i++) {
    const token = tokens[i] as string;
    if (!token.startsWith('{{')) {
      nodes.push({ kind: 'text', text: token });
      continue;
    }
    const inner = token
      .slice(2, -2)
      .replace(/^-\s|\s-$/g, '')
      .trim();
    const [word = '', expression = ''] = inner.split(/\s+(.*)/s);
    if (inner === 'end' || inner === 'else') {
      if (!inside) throw new UsageError(`{{${inner}}} of nothing in the format`);
      return { nodes, next: i, end: inner };
    }
    if (word !== 'range' && word !== 'if') {
      nodes.push({ kind: 'print', expression: inner });
      continue;
    }
    const body = parse(tokens, i + 1, true);
    const rest = body.end === 'else' ? parse(tokens, body.next + 1, true) : { nodes: [], next: body.next };
    nodes.push({ kind: word, expression, body: body.nodes, otherwise: rest.nodes });
    i = rest.next;
  }
  if (inside) throw new UsageError('a {{range}} or {{if}} of the format has no {{end}}');
  return { nodes, next: tokens.length, end: '' };
}

function print(nodes: readonly Node[], data: unknown): string {
  return nodes
    .map((node) => {
      if (node.kind === 'text') return node.text.replaceAll('\\n', '\n').replaceAll('\\t', '\t');
      const value = evaluate(node.expression, data);
      if (node.kind === 'print') return text(value);
      if (node.kind === 'if') return print(isTrue(value) ? node.body : node.otherwise, data);
      const items = Array.isArray(value) ? value : Object.values((value ?? {}) as object);
      return items.length ? items.map((item) => print(node.body, item)).join('') : print(node.otherwise, data);
    })
    .join('');
}

const functions: Record<string, (...args: unknown[]) => unknown> = {
  json: (value) => JSON.stringify(value ?? null),
  index: (value, ...keys) =>
    keys.reduce((of, key) => (of as Record<string, unknown> | undefined)?.[key as string], value),
  len: (value) =>
    typeof value === 'string' || Array.isArray(value) ? value.length : Object.keys((value ?? {}) as object).length,
  upper: (value) => text(value).toUpperCase(),
  lower: (value) => text(value).toLowerCase(),
  join: (list, separator) => {
    if (!Array.isArray(list)) throw new UsageError('join of a format is of a list');
    return list.map(text).join(text(separator));
  },
  println: (...values) => `${values.map(text).join(' ')}\n`,
  eq: (a, b) => a === b,
  ne: (a, b) => a !== b,
  not: (value) => !isTrue(value),
};

/** Each part of a pipe gets the value of the one before as its last argument. */
function evaluate(expression: string, data: unknown): unknown {
  let value: unknown;
  for (const [i, part] of expression.split(/\s*\|\s*/).entries()) {
    const words = part.match(/"(?:[^"\\]|\\.)*"|`[^`]*`|\S+/g) ?? [];
    const [name = ''] = words;
    const call = Object.hasOwn(functions, name) ? functions[name] : undefined;
    const args = (call ? words.slice(1) : words).map((word) => operand(word, data));
    if (i > 0) args.push(value);
    if (!call && args.length !== 1)
      throw new UsageError(`not an expression of a format: ${JSON.stringify(expression)}`);
    value = call ? call(...args) : args[0];
  }
  return value;
}

function operand(word: string, data: unknown): unknown {
  if (word.startsWith('"')) return unquoted(word);
  if (word.startsWith('`')) return word.slice(1, -1);
  if (/^-?\d+$/.test(word)) return Number(word);
  if (word === '.') return data;
  if (!/^(\.\w+)+$/.test(word)) throw new UsageError(`not a field or function of a format: ${JSON.stringify(word)}`);
  let value = data;
  for (const field of word.slice(1).split('.')) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, field))
      throw new UsageError(`the format asks for ${word}, and there is no ${field}`);
    value = (value as Record<string, unknown>)[field];
  }
  return value;
}

function unquoted(word: string): unknown {
  try {
    return JSON.parse(word);
  } catch {
    throw new UsageError(`not a text of a format: ${word}`);
  }
}

/** As Go prints what is no text. */
function text(value: unknown): string {
  if (value === null || value === undefined) return '<no value>';
  if (Array.isArray(value)) return `[${value.map(text).join(' ')}]`;
  if (typeof value !== 'object') return String(value);
  return `map[${Object.entries(value)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, item]) => `${key}:${text(item)}`)
    .join(' ')}]`;
}

function isTrue(value: unknown): boolean {
  if (typeof value === 'object' && value !== null) return Object.keys(value).length > 0;
  return Boolean(value);
}
