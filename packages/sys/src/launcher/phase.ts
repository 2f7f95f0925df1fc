/**
 * The order of a launch. Parts name the phase of a step, never its place: what must come before what is known here,
 * once, for everybody. Within a phase the steps stand in the order in which they were added.
 *
 * - `birth`: in the caller's namespaces: oom_score_adj, v1 cgroups
 * - `join`: setns, in the order that the builder finds
 * - `user`: becoming somebody in the joined user namespace
 * - `host`: the child's own namespaces exist now: host name, time offsets, loopback, session, terminal
 * - `mount`, `root`: the mount table, then pivot_root or chroot
 * - `sysctl`, `limits`: after the root is in place, before privileges go
 * - `bounding`, `credentials`, `privileges`, `landlock`: capabilities leave, ids change, no_new_privs
 * - `fds`: before `cwd`, so that no leaked directory can become the working directory (CVE-2024-21626)
 * - `cwd`; `supervise`: the program's process leaves its supervisor; `signals`, `filter`, `exec`
 */
export const phases = [
  'birth',
  'join',
  'user',
  'nest',
  'host',
  'mount',
  'root',
  'sysctl',
  'limits',
  'bounding',
  'credentials',
  'privileges',
  'landlock',
  'fds',
  'cwd',
  'supervise',
  'signals',
  'filter',
  'exec',
  'end',
] as const;

/** One of {@link phases}. */
export type Phase = (typeof phases)[number];
