import {
  AT,
  addressOf,
  Fd,
  invalid,
  type LaunchProgram,
  O,
  type Part,
  PR,
  type Slot,
  storeResult,
  UnsupportedError,
} from '@iso/sys';
import { landlockAbi } from './abi.js';
import { judge, type LandlockOptions, needs, type Ruleset } from './options.js';
import {
  fsRights,
  logFlags,
  NET_PORT,
  netRights,
  ofFiles,
  PATH_BENEATH,
  RULE,
  rulesetSize,
  scopes,
} from './raw/landlock.js';
import { bitsOf, type FileRight, type LogFlag, type NetRight, type Scope, since } from './rights.js';

/** What a ruleset does on this kernel. */
export interface LandlockReport {
  /** The kernel's ABI; 0 where it has no Landlock. */
  readonly abi: number;
  /** Rights on files that are denied where no rule allows them. */
  readonly files: readonly FileRight[];
  /** Rights on ports, likewise. */
  readonly net: readonly NetRight[];
  readonly scope: readonly Scope[];
  readonly log: readonly LogFlag[];
  /** What was asked for and is not enforced. */
  readonly missing: readonly string[];
}

/** A ruleset as a part of a launch: see {@link landlock}. */
export class Landlock implements Part {
  readonly #ruleset: Ruleset;

  /** @internal */
  constructor(ruleset: Ruleset) {
    this.#ruleset = ruleset;
  }

  /**
   * What is enforced on this kernel, and what is not.
   *
   * @returns what a launch does
   */
  report(): LandlockReport {
    const abi = this.#abi();
    const { paths, ports, scope, log } = this.#ruleset;
    const wanted = paths ? since(fsRights, this.#ruleset.abi) : [];
    const files = wanted.filter((name) => fsRights[name].abi <= abi);
    const net = ports.map(({ right }) => right).filter((right) => netRights[right].abi <= abi);
    const there = {
      scope: scope.filter((name) => scopes[name].abi <= abi),
      log: log.filter((name) => logFlags[name].abi <= abi),
    };
    return {
      abi,
      files,
      net,
      ...there,
      missing: [
        ...wanted.filter((name) => !files.includes(name)),
        ...ports.map(({ right }) => right).filter((right) => !net.includes(right)),
        ...scope.filter((name) => !there.scope.includes(name)),
        ...log.filter((name) => !there.log.includes(name)),
      ],
    };
  }

  /**
   * Adds its steps to a launch.
   *
   * @param program - the launch in the making
   */
  confine(program: LaunchProgram): void {
    if (program.ending !== 'process') throw invalid('a ruleset is for a process, not for an errand');
    if (this.#ruleset.strict) this.#require();
    const report = this.report();
    const { files, net, scope, log, abi } = report;
    if (this.#ruleset.noNewPrivileges)
      program.step('privileges', 'prctl', [PR.SET_NO_NEW_PRIVS, 1, 0, 0, 0], { text: 'prctl(PR_SET_NO_NEW_PRIVS)' });
    if (files.length + net.length + scope.length === 0) return;
    const attributes = Buffer.alloc(24);
    attributes.writeBigUInt64LE(bitsOf(files, fsRights), 0);
    attributes.writeBigUInt64LE(bitsOf(net, netRights), 8);
    attributes.writeBigUInt64LE(bitsOf(scope, scopes), 16);
    const ruleset = program.step('landlock', 'landlock_create_ruleset', [attributes, rulesetSize(abi), 0], {
      text: `landlock_create_ruleset({files: ${files.length}, net: [${net}], scope: [${scope}]})`,
      opens: true,
    });
    for (const rule of files.length ? (this.#ruleset.paths ?? []) : [])
      addPath(program, ruleset, { ...rule, rights: rule.rights.filter((name) => files.includes(name)) });
    for (const { right, ports } of this.#ruleset.ports)
      if (net.includes(right)) for (const port of ports) addPort(program, ruleset, right, port);
    program.step('landlock', 'landlock_restrict_self', [ruleset, Number(bitsOf(log, logFlags))], {
      hint: {
        EPERM: 'without no_new_privs it needs CAP_SYS_ADMIN in its user namespace',
        E2BIG: 'a process has 16 rulesets at the most',
      },
    });
    program.step('landlock', 'close', [ruleset]);
  }

  /** The kernel's; without Landlock the best effort is none. */
  #abi(): number {
    try {
      return landlockAbi();
    } catch (error) {
      if (UnsupportedError.is(error) && !this.#ruleset.strict) return 0;
      throw error;
    }
  }

  #require(): void {
    const abi = landlockAbi();
    const lacking = needs(this.#ruleset).find((need) => need.abi > abi);
    if (lacking)
      throw new UnsupportedError(
        `landlock: ${lacking.name}`,
        `the kernel has ABI ${abi}, not ${lacking.abi}; mode 'bestEffort', or a lower abi, goes without`,
      );
  }
}

/**
 * Restricts a launched process, and all that it starts, by a Landlock ruleset: to places of the file system, to ports, and to its
 * own kind for signals and abstract sockets. Needs no privilege, and works beside other permissions: it only takes away. The ruleset
 * is made in the child, so paths are those of its own root; it is in force before the program's exec, for which the program, its
 * interpreter and its libraries must be allowed (`execute`).
 *
 * @param options - what it may reach
 * @returns a part for a launch
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for rights that there are not, and rules that restrict nothing
 * @throws UnsupportedError at the launch, in mode `strict`: where the kernel lacks any of it
 *
 * @example
 * ```ts
 * import { landlock } from '@iso/landlock';
 * import { run } from '@iso/process';
 * const box = landlock({
 *   mode: 'bestEffort',
 *   paths: [
 *     ...['/usr', '/bin', '/lib', '/lib64', '/etc'].map((path) => ({ path, access: 'execute' as const, optional: true })),
 *     { path: '/dev/null', access: ['read-file', 'write-file'] },
 *   ],
 *   net: { bindTcp: [], connectTcp: [443] },
 *   scope: ['signal'],
 * });
 * const { stderr } = await run('ls', ['/var'], { confine: [box], check: false });
 * if (box.report().abi > 0 && !stderr.includes('denied')) throw new Error(stderr);
 * ```
 */
export function landlock(options: LandlockOptions): Landlock {
  return new Landlock(judge(options));
}

/** A rule for a path is a structure with the number of a descriptor that only the child opens. */
function addPath(program: LaunchProgram, ruleset: Slot, rule: NonNullable<Ruleset['paths']>[number]): void {
  const { path, rights, optional } = rule;
  if (rights.length === 0) return;
  if (path instanceof Fd) return add(program, ruleset, rights, path.number, `descriptor ${path.number}`);
  let place: Slot | undefined;
  const open = () => {
    place = program.step('landlock', 'openat', [AT.FDCWD, path, O.PATH | O.CLOEXEC, 0], {
      ...(optional ? {} : { hint: { ENOENT: 'it is not there, inside its own root; optional: true passes over it' } }),
    });
  };
  const allow = () => {
    add(program, ruleset, rights, place as Slot, path);
    program.step('landlock', 'close', [place as Slot]);
  };
  if (optional) program.attempt('landlock', ['ENOENT', 'ENOTDIR', 'EACCES'], open, { onSuccess: allow });
  else {
    open();
    allow();
  }
}

function add(
  program: LaunchProgram,
  ruleset: Slot,
  rights: readonly FileRight[],
  fd: Slot | number,
  shown: string,
): void {
  const ofFile = rights.filter((name) => ofFiles.has(name));
  const rule = (granted: readonly FileRight[]) => {
    const bytes = Buffer.from(new ArrayBuffer(PATH_BENEATH.size));
    bytes.writeBigUInt64LE(bitsOf(granted, fsRights), PATH_BENEATH.access);
    const address = addressOf(bytes);
    if (typeof fd === 'number') bytes.writeInt32LE(fd, PATH_BENEATH.fd);
    else storeResult(program, 'landlock', fd, address + BigInt(PATH_BENEATH.fd), 'number of the descriptor');
    program.defer(() => void bytes.length);
    return () =>
      program.step('landlock', 'landlock_add_rule', [ruleset, RULE.PATH_BENEATH, address, 0], {
        text: `landlock_add_rule(${JSON.stringify(shown)}, [${granted}])`,
      });
  };
  if (ofFile.length === rights.length) return void rule(rights)();
  const all = rule(rights);
  // A file takes no rights of directories: the kernel's EINVAL says that it is one.
  if (ofFile.length === 0) program.attempt('landlock', ['EINVAL'], all, {});
  else {
    const few = rule(ofFile);
    program.attempt('landlock', ['EINVAL'], all, { onError: few });
  }
}

function addPort(program: LaunchProgram, ruleset: Slot, right: NetRight, port: number): void {
  const bytes = Buffer.alloc(NET_PORT.size);
  bytes.writeBigUInt64LE(bitsOf([right], netRights), NET_PORT.access);
  bytes.writeBigUInt64LE(BigInt(port), NET_PORT.port);
  program.step('landlock', 'landlock_add_rule', [ruleset, RULE.NET_PORT, bytes, 0], {
    text: `landlock_add_rule(port ${port}, [${right}])`,
    hint: { EAFNOSUPPORT: 'the kernel is built without TCP/IP' },
  });
}
