import { describe, expect, it } from 'vitest';
import { fault } from './schema.js';

const config = (more: object = {}) => ({
  ociVersion: '1.2.0',
  root: { path: 'rootfs' },
  process: { args: ['true'], cwd: '/' },
  ...more,
});
const linux = (more: object) => config({ linux: more });
const process_ = (more: object) => config({ process: { args: ['true'], cwd: '/', ...more } });

describe('the schema of the specification', () => {
  it.each<[object, RegExp]>([
    [[], /^Instance type "array" is invalid/],
    [{}, /ociVersion/],
    [config({ process: { args: ['true'] } }), /^process: .*"cwd"/],
    [process_({ args: ['a', 1] }), /^process\.args\[1\]: .*number.*, it is 1$/],
    [process_({ user: { uid: -1 } }), /^process\.user\.uid: .*, it is -1$/],
    [process_({ user: { uid: 2 ** 32 } }), /^process\.user\.uid: .*, it is 4294967296$/],
    [process_({ rlimits: [{ type: 'NOFILE', soft: 1, hard: 1 }] }), /^process\.rlimits\[0\]\.type: .*"NOFILE"$/],
    [config({ mounts: [{ source: '/' }] }), /^mounts\[0\]: .*destination/],
    [config({ annotations: { 'a/b~c': 1 } }), /^annotations\["a\/b~c"\]: .*, it is 1$/],
    [config({ hooks: { poststop: [{ path: '/x', timeout: 0 }] } }), /^hooks\.poststop\[0\]\.timeout: .*, it is 0$/],
    [linux({ namespaces: [{ type: 'pod' }] }), /^linux\.namespaces\[0\]\.type: .*, it is "pod"$/],
    [linux({ resources: { memory: { limit: '1G' } } }), /^linux\.resources\.memory\.limit: .*, it is "1G"$/],
    [linux({ seccomp: { defaultAction: 'SCMP_ACT_MAYBE' } }), /^linux\.seccomp\.defaultAction: .*"SCMP_ACT_MAYBE"$/],
    [linux({ devices: [{ path: '/x', type: 'c', fileMode: -1 }] }), /^linux\.devices\[0\]\.fileMode: .*, it is -1$/],
    [linux({ maskedPaths: '/proc' }), /^linux\.maskedPaths: .*, it is "\/proc"$/],
  ])('refuses %j', (value, message) => {
    expect(fault(value, 'config')).toMatch(message);
  });

  it.each([
    process_({ rlimits: [{ type: 'RLIMIT_NOFILE', soft: 2 ** 64, hard: 2 ** 64 }] }),
    linux({ rootfsPropagation: 'rslave' }),
    linux({ devices: [{ path: '/dev/fuse', type: 'c', major: 10, minor: 229, fileMode: 0o20666 }] }),
    linux({ resources: { memory: { limit: -1 }, pids: { limit: -1 }, unified: { 'memory.high': '1' } } }),
    config({ windows: { any: 1 }, later: { unknown: true } }),
  ])('has nothing against %j', (value) => {
    expect(fault(value, 'config')).toBeUndefined();
  });

  it('of a process alone, and of limits', () => {
    expect(fault({ cwd: '/', args: ['x'] }, 'process')).toBeUndefined();
    expect(fault({ args: ['x'] }, 'process')).toMatch(/cwd/);
    expect(fault({ cpu: { shares: 5 } }, 'resources')).toBeUndefined();
    expect(fault({ cpu: { shares: -5 } }, 'resources')).toMatch(/^cpu\.shares: /);
    expect(fault({ blockIO: { weight: 70_000 } }, 'resources')).toMatch(/^blockIO\.weight: /);
  });
});
