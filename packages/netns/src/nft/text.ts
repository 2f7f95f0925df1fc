import type { FieldName } from './field.js';
import type { SetElement, SetSpec } from './set.js';
import type { MatchValue, NatTarget, Statement, Verdict } from './statement.js';
import type { ChainSpec, Operation, TableRef } from './table.js';

/**
 * A rule as nft(8) writes it.
 *
 * @param statements - of the rule
 * @returns one line
 */
export function ruleText(statements: readonly Statement[]): string {
  return statements.map(statementText).join(' ');
}

/**
 * A change as a line of a script for `nft -f`.
 *
 * @param operation - the change
 * @returns one line
 */
export function operationText(operation: Operation): string {
  const verb = operation.verb === 'ensure' ? 'add' : operation.verb === 'remove' ? 'delete' : operation.verb;
  switch (operation.what) {
    case 'table': {
      const { table } = operation;
      const flags = 'flags' in table && table.flags?.length ? ` { flags ${table.flags.join(', ')}; }` : '';
      return `${verb} table ${tableText(table)}${flags}`;
    }
    case 'chain': {
      const { chain } = operation;
      const hook = operation.verb === 'create' || operation.verb === 'ensure' ? hookText(operation.chain) : '';
      return `${verb} chain ${tableText(chain.table)} ${chain.name}${hook}`;
    }
    case 'set': {
      const { set } = operation;
      const kind = set.data === undefined ? 'set' : 'map';
      const body = operation.verb === 'create' || operation.verb === 'ensure' ? setBody(set) : '';
      return `${verb} ${kind} ${tableText(set.table)} ${set.name}${body}`;
    }
    case 'elements': {
      const { set, elements } = operation;
      const withData = operation.verb === 'create';
      const list = elements.map((element) => elementText(element, withData)).join(', ');
      return `${verb} element ${tableText(set.table)} ${set.name} { ${list} }`;
    }
    case 'rule': {
      if (operation.verb === 'remove') {
        const { chain, handle } = operation;
        return `delete rule ${tableText(chain.table)} ${chain.name} handle ${handle}`;
      }
      const { chain, statements, comment, insert } = operation.rule;
      const note = comment === undefined ? '' : ` comment ${quoted(comment)}`;
      return `${insert ? 'insert' : 'add'} rule ${tableText(chain.table)} ${chain.name} ${ruleText(statements)}${note}`;
    }
  }
}

function tableText({ family, name }: TableRef): string {
  return `${family} ${name}`;
}

function hookText({ hook }: ChainSpec): string {
  if (!hook) return '';
  const devices = hook.devices?.length ? ` devices = { ${hook.devices.join(', ')} }` : '';
  const policy = hook.policy ? ` policy ${hook.policy};` : '';
  return ` { type ${hook.type} hook ${hook.hook}${devices} priority ${hook.priority};${policy} }`;
}

function setBody(set: SetSpec): string {
  const types = (names: string | readonly string[]) => (typeof names === 'string' ? names : names.join(' . '));
  const data = set.data === undefined ? '' : ` : ${types(set.data)}`;
  const flags = set.flags?.length ? ` flags ${set.flags.join(', ')};` : '';
  const timeout = set.timeout === undefined ? '' : ` timeout ${set.timeout}ms;`;
  const size = set.size === undefined ? '' : ` size ${set.size};`;
  return ` { type ${types(set.key)}${data};${flags}${timeout}${size} }`;
}

function elementText(element: SetElement, withData: boolean): string {
  const parts = (Array.isArray(element.key) ? element.key : [element.key]) as readonly SetElement['key'][];
  const key = parts
    .map((part) => {
      if (typeof part === 'object' && 'from' in part) return `${part.from}-${part.to}`;
      return typeof part === 'string' && !/^[\w.:/-]+$/.test(part) ? quoted(part) : String(part);
    })
    .join(' . ');
  const timeout = element.timeout === undefined || !withData ? '' : ` timeout ${element.timeout}ms`;
  const comment = element.comment === undefined || !withData ? '' : ` comment ${quoted(element.comment)}`;
  const { data } = element;
  if (data === undefined || !withData) return `${key}${timeout}${comment}`;
  const value = Array.isArray(data)
    ? data.join(' . ')
    : typeof data === 'object' || isVerdict(data)
      ? verdictText(data as Verdict)
      : String(data);
  return `${key}${timeout}${comment} : ${value}`;
}

function isVerdict(data: unknown): boolean {
  return data === 'accept' || data === 'drop' || data === 'continue' || data === 'return';
}

function statementText(statement: Statement): string {
  switch (statement.kind) {
    case 'match': {
      const op = statement.op === '==' ? '' : `${statement.op} `;
      return `${statement.field} ${op}${valueText(statement.field, statement.value)}`;
    }
    case 'lookup':
      return `${keyText(statement.key)} ${statement.invert ? '!= ' : ''}@${statement.set}`;
    case 'vmap':
      return `${keyText(statement.key)} vmap @${statement.map}`;
    case 'verdict':
      return verdictText(statement.verdict);
    case 'dnat':
    case 'snat':
      return natText(statement.kind, statement.to);
    case 'masquerade':
      return ['masquerade', statement.flags.join(',')].filter(Boolean).join(' ');
    case 'redirect':
      return statement.port === undefined ? 'redirect' : `redirect to :${statement.port}`;
    case 'counter':
    case 'notrack':
      return statement.kind;
    case 'limit': {
      const unit = statement.unit === 'bytes' ? ' bytes' : '';
      const burst = statement.burst === 0 ? '' : ` burst ${statement.burst} ${statement.unit}`;
      return `limit rate ${statement.over ? 'over ' : ''}${statement.rate}${unit}/${statement.per}${burst}`;
    }
    case 'log': {
      const prefix = statement.prefix === undefined ? '' : ` prefix ${quoted(statement.prefix)}`;
      return `log${prefix}${statement.group === undefined ? '' : ` group ${statement.group}`}`;
    }
    case 'reject':
      return statement.how === 'icmpx' ? 'reject' : `reject with ${statement.how}`;
    case 'trace':
      return 'meta nftrace set 1';
    case 'set mark':
      return `${statement.what} set ${statement.value}`;
  }
}

function keyText(key: readonly FieldName[]): string {
  return key.join(' . ');
}

function valueText(field: FieldName, value: MatchValue): string {
  if (typeof value === 'object') return 'from' in value ? `${value.from}-${value.to}` : value.join(',');
  return field.endsWith('name') ? quoted(String(value)) : String(value);
}

function verdictText(verdict: Verdict): string {
  return typeof verdict === 'string' ? verdict : (Object.entries(verdict)[0]?.join(' ') ?? '');
}

function natText(kind: string, to: NatTarget): string {
  if ('map' in to) {
    const what = to.withPort ? ` ${to.family} addr . port` : ` ${to.family}`;
    return `${kind}${what} to ${keyText(to.key)} map @${to.map}`;
  }
  const six = to.address?.includes(':');
  const family = to.address === undefined ? '' : six ? ' ip6' : ' ip';
  const address = six && to.port !== undefined ? `[${to.address}]` : (to.address ?? '');
  const port = to.port === undefined ? '' : `:${to.port}`;
  const flags = to.flags?.length ? ` ${to.flags.join(',')}` : '';
  return `${kind}${family} to ${address}${port}${flags}`;
}

function quoted(text: string): string {
  return `"${text.replaceAll('"', "'")}"`;
}
