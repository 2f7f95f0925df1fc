import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Place, Said } from './place.js';

/**
 * For tests: a containers.conf with this runtime. Podman's own limits cannot be raised where there is no CAP_SYS_RESOURCE; and it asks for
 * no container without cgroups of a runtime whose name it does not know.
 *
 * @param place - where the runtime is
 * @param more - lines about containers
 */
export const podmanSettings = (place: Place, more = ''): string => `[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
${more}[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime_supports_nocgroup = ["iso-oci"]
runtime = "iso-oci"
[engine.runtimes]
iso-oci = ["${place.runtime()}"]
`;

/** For tests: podman with a storage of its own, on this runtime. */
export class Podman {
  readonly #place: Place;
  readonly #words: readonly string[];

  constructor(place: Place, storage: 'vfs' | 'overlay') {
    this.#place = place;
    const settings = join(place.folder, 'containers.conf');
    const capabilities = '["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_KILL", "CAP_SETUID", "CAP_NET_BIND_SERVICE"]';
    writeFileSync(settings, podmanSettings(place, `default_capabilities = ${capabilities}\n`));
    const folders = [
      '--root',
      join(place.folder, `root-${storage}`),
      '--runroot',
      join(place.folder, `run-${storage}`),
    ];
    this.#words = ['env', `CONTAINERS_CONF=${settings}`, 'podman', ...folders, '--storage-driver', storage];
  }

  /** A command of podman's. */
  podman(words: readonly string[], options: { input?: string | Buffer } = {}): Said {
    return this.#place.run([...this.#words, ...words], options);
  }

  /** `podman run`, in a cgroup of this test. */
  run(words: readonly string[], options: { input?: string } = {}): Said {
    return this.podman(['run', '--cgroup-parent', `/iso-test-${process.pid}`, '--network', 'none', ...words], options);
  }

  /** With a terminal around it, as when somebody types. */
  typed(words: readonly string[], input: string): Said {
    const quoted = [...this.#words, ...words].map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(' ');
    return this.#place.run(['script', '-qec', quoted, '/dev/null'], { input });
  }
}
