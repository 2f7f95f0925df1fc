// The schemas beside this are those of https://github.com/opencontainers/runtime-spec, version 1.3.0, as they are there: its LICENSE too.
import { type OutputUnit, Validator } from '@cfworker/json-schema';
import linux from './config-linux.json' with { type: 'json' };
import config from './config-schema.json' with { type: 'json' };
import defs from './defs.json' with { type: 'json' };
import defsLinux from './defs-linux.json' with { type: 'json' };

/** What of a configuration comes alone, too: a process that is added, limits that are changed. */
export type Described = 'config' | 'process' | 'resources';

const BASE = 'https://opencontainers.org/schema/';

/** Of other systems, whatever stands there is nothing to this one. */
const alien = ['solaris', 'windows', 'vm', 'zos', 'freebsd'];
const properties = Object.fromEntries(Object.entries(config.properties).filter(([name]) => !alien.includes(name)));

/**
 * What engines write otherwise than the schema has it, and mean well: propagation with the words that are recursive, which is judged
 * where it is applied; and modes of devices with the bits of their type, which those of the mode are taken out of.
 */
const { rootfsPropagation: _, ...ownProperties } = linux.linux.properties;
const ownLinux = { linux: { ...linux.linux, properties: ownProperties } };
const { Device } = defsLinux.definitions;
const ownDevice = {
  ...Device,
  properties: { ...Device.properties, fileMode: { type: 'integer', minimum: 0, maximum: 0o177777 } },
};
const ownDefs = { definitions: { ...defsLinux.definitions, Device: ownDevice } };

const places: Record<Described, object> = {
  config: { ...config, properties },
  process: config.properties.process,
  resources: ownProperties.resources,
};

/**
 * Holds a document against the schemas of the runtime specification.
 *
 * @param value - what JSON.parse returned
 * @param what - of the specification it is
 * @returns what is wrong with it, and where, in a line; undefined where nothing is
 */
export function fault(value: unknown, what: Described): string | undefined {
  const validator = new Validator({ ...places[what], id: `${BASE}config-schema.json` }, '4', false);
  for (const [id, schema] of Object.entries({ 'config-linux': ownLinux, defs, 'defs-linux': ownDefs }))
    validator.addSchema(schema, `${BASE}${id}.json`);
  const { errors } = validator.validate(value);
  const error = errors.find(({ keyword }) => !around.includes(keyword));
  return error && describe(error, value);
}

/** Errors that only say that there is one further down. */
const around = ['properties', 'patternProperties', 'additionalProperties', 'items', '$ref', 'allOf', 'anyOf'];
/** More of a value says no more. */
const LONGEST = 80;

function describe({ instanceLocation, error }: OutputUnit, value: unknown): string {
  const keys = instanceLocation.split('/').slice(1).map(decodeURI).map(unescaped);
  const found = keys.reduce((at, key) => (at as Record<string, unknown>)[key], value);
  const place = keys.map((key, i) => nameOf(key, i === 0)).join('');
  return `${place ? `${place}: ` : ''}${error.replace(/\.$/, '')}, it is ${JSON.stringify(found).slice(0, LONGEST)}`;
}

/** As JSON pointers write them, see RFC 6901. */
function unescaped(key: string): string {
  return key.replaceAll('~1', '/').replaceAll('~0', '~');
}

function nameOf(key: string, first: boolean): string {
  if (/^\d+$/.test(key)) return `[${key}]`;
  return /^\w+$/.test(key) ? `${first ? '' : '.'}${key}` : `[${JSON.stringify(key)}]`;
}
