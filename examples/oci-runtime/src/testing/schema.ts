import { type OutputUnit, type Schema, Validator } from '@cfworker/json-schema';
import defs from '../config/schema/defs.json' with { type: 'json' };
import defsLinux from '../config/schema/defs-linux.json' with { type: 'json' };
import featuresLinux from '../config/schema/features-linux.json' with { type: 'json' };
import features from '../config/schema/features-schema.json' with { type: 'json' };
import state from '../config/schema/state-schema.json' with { type: 'json' };

const schemas = { state, features };

/** For tests: what is wrong with what a command says, by the specification's own schemas. */
export function faultsOf(value: unknown, what: keyof typeof schemas): OutputUnit[] {
  const base = 'https://opencontainers.org/schema/';
  const schema = { ...schemas[what], id: `${base}${what}-schema.json` } as unknown as Schema;
  const validator = new Validator(schema, '4', false);
  for (const [id, others] of Object.entries({ defs, 'defs-linux': defsLinux, 'features-linux': featuresLinux }))
    validator.addSchema(others, `${base}${id}.json`);
  return validator.validate(value).errors;
}
