import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CgroupError } from '../error.js';
import type { Limits } from './limits.js';
import { plan } from './plan.js';

/** Every limit that there is, by a value that is one. */
const all: Required<Omit<Limits, 'devices'>> & { devices: object[] } = {
  cgroup: { maxDepth: 2, maxDescendants: 'max' },
  cpuset: { cpus: '0-1', mems: '0', exclusive: '1', partition: 'root', cpuExclusive: true },
  cpu: {
    max: { quotaUs: 5000, periodUs: 10_000 },
    weight: 100,
    burstUs: 100,
    idle: false,
    uclamp: { min: 1, max: 'max' },
    rt: { runtimeUs: 1, periodUs: 2 },
  },
  memory: {
    max: '8M',
    high: 1,
    low: 1,
    min: 1,
    swap: { max: 0, high: 1 },
    oomGroup: true,
    zswap: { max: 1, writeback: true },
    swappiness: 1,
    oomKillDisable: false,
  },
  pids: { max: 1 },
  io: {
    weight: 100,
    deviceWeight: [{ device: '8:0', weight: 100 }],
    max: [{ device: '8:0', rbps: 1, wbps: '1M', riops: 'max', wiops: 3 }],
    latency: [{ device: '8:0', targetUs: 1 }],
    cost: [{ device: '8:0', qos: { enable: 1 }, model: { ctrl: 'auto' } }],
    prioClass: 'idle',
  },
  hugetlb: { '2MB': { max: '2M', rsvdMax: '2M' } },
  rdma: { mlx4_0: { hcaHandle: 1, hcaObject: 'max' } },
  misc: { sev_es: 9 },
  dmem: { 'drm/0/vram': { max: 1, low: 1, min: 1 } },
  net_cls: { classid: 1 },
  net_prio: { ifpriomap: { lo: 1 } },
  devices: [{ allow: true, type: 'c', major: 1, minor: 3, access: 'rwm' }],
};

type Path = (string | number)[];

/** Paths of all that has keys, and of every value. */
function paths(value: unknown, at: Path = []): { objects: Path[]; leaves: Path[] } {
  if (typeof value !== 'object' || value === null) return { objects: [], leaves: [at] };
  const below = Object.entries(value).map(([key, one]) =>
    paths(one, [...at, Array.isArray(value) ? Number(key) : key]),
  );
  return {
    objects: [...(Array.isArray(value) ? [] : [at]), ...below.flatMap(({ objects }) => objects)],
    leaves: below.flatMap(({ leaves }) => leaves),
  };
}

const { objects, leaves } = paths(all);
/** Their keys are names of the machine's: every word is one. */
const named = [['hugetlb'], ['rdma'], ['misc'], ['dmem'], ['net_prio', 'ifpriomap']].map(String);
const words = [...named, 'io,cost,0,qos', 'io,cost,0,model'];

function changed(path: Path, change: (holder: Record<string, unknown>, key: string) => void): Limits {
  const copy = structuredClone(all) as unknown as Record<string, unknown>;
  let holder = copy;
  for (const key of path.slice(0, -1)) holder = holder[key] as Record<string, unknown>;
  change(holder, String(path.at(-1)));
  return copy as Limits;
}

const verdict = (limits: unknown, version: 1 | 2) => {
  try {
    return plan(limits as Limits, { version, onUnsupported: 'ignore' });
  } catch (error) {
    return error as NodeJS.ErrnoException;
  }
};
const isInvalid = (error: unknown) =>
  error instanceof TypeError && (error as NodeJS.ErrnoException).code === 'ERR_INVALID_ARG_VALUE';

for (const version of [1, 2] as const) {
  describe(`limits that are none, on v${version}`, () => {
    it('with what they are all right', () => {
      expect(verdict(all, version)).toBeInstanceOf(Array);
    });

    it.each(objects.filter((path) => !words.includes(String(path))).map((path) => [path.join('.') || 'limits', path]))(
      'a key that is none: %s',
      (_, path) => {
        const bad = changed([...(path as Path), 'limit'], (holder, key) => {
          holder[key] = 1;
        });
        expect(verdict(bad, version)).toSatisfy(isInvalid);
      },
    );

    it.each(objects.map((path) => [path.join('.') || 'limits', path]))('no object: %s', (_, path) => {
      for (const value of [null, 1, 'x', true, new Map([['max', 1]]), Number.NaN, () => 1]) {
        const bad = path.length
          ? changed(path as Path, (holder, key) => {
              holder[key] = value;
            })
          : value;
        // One number, or "max", is a limit on processors.
        if (String(path) === 'cpu,max' && value === 1) continue;
        expect(verdict(bad, version), String(value)).toSatisfy(isInvalid);
      }
    });

    it.each(leaves.map((path) => [path.join('.'), path]))('no value: %s', (_, path) => {
      const where = (path as Path).join('.');
      // The cost model's values are the kernel's, a percentage has a fraction, and -1 takes a budget away.
      const free = (value: unknown) =>
        typeof value === 'number' &&
        ((/^io\.cost/.test(where) && value > 0 && value < 2 ** 54) ||
          (/uclamp/.test(where) && value === 1.5) ||
          (/rt\.runtime/.test(where) && value === -1));
      for (const value of [Number.NaN, -1, 2 ** 53 + 2, 1.5, Number.POSITIVE_INFINITY, null, {}, [], 1n, '\n', 'a b']) {
        if (free(value)) continue;
        const bad = changed(path as Path, (holder, key) => {
          holder[key] = value;
        });
        const now = verdict(bad, version);
        // What only the other version has is ignored here.
        if (!isInvalid(now)) {
          expect(now, String(value)).toBeInstanceOf(Array);
          expect(now, String(value)).toEqual(verdict(all, version));
        }
      }
    });

    it('anything anywhere: a plan whose lines are lines, or an error with a code', () => {
      const path = fc.constantFrom(...leaves, ...objects.filter(({ length }) => length));
      fc.assert(
        fc.property(path, fc.anything({ withBigInt: true, withNullPrototype: true }), (at, value) => {
          const bad = changed(at, (holder, key) => {
            holder[key] = value;
          });
          const now = verdict(bad, version);
          if (now instanceof Error)
            return isInvalid(now) || now instanceof CgroupError || now.name === 'UnsupportedError';
          return now.every((write) => !/NaN|undefined|null|Infinity|\[object|\n./.test(write.value));
        }),
        { numRuns: 2000 },
      );
    });
  });
}

it('an empty cpuset is no set on v1, where nobody gets in then', () => {
  expect(verdict({ cpuset: { cpus: '' } }, 1)).toSatisfy(isInvalid);
  expect(verdict({ cpuset: { mems: '' } }, 1)).toSatisfy(isInvalid);
});

it('a version that is none, and an unknown way with what a version lacks, are refused: limits would be left out', () => {
  for (const options of [{ version: 3 }, {}, { version: '2' }, { version: 2, onUnsupported: 'ignored' }]) {
    expect(() => plan({ cpu: { max: 0.5 } }, options as never)).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }),
    );
  }
});

it('a device that is not there is named', () => {
  const limits: Limits = { io: { max: [{ device: '/no-such-device', rbps: 1 }] } };
  expect(() => plan(limits, { version: 2 })).toThrow('stat("/no-such-device"): ENOENT');
});
