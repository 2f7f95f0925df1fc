// Compares flags and structure layouts of src/raw with the kernel's headers, for both architectures. Needs gcc and
// linux-libc-dev; linux-libc-dev-arm64-cross for what arm64 has of its own, else only what all architectures share is compared.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';

const source = new URL('../src/raw/', import.meta.url).href;
const includes = ['sched', 'fcntl', 'openat2', 'prctl', 'wait', 'poll', 'resource', 'eventpoll'].map(
  (name) => `#include <linux/${name}.h>`,
);
const prefixes = {
  CLONE: 'CLONE_',
  O: 'O_',
  AT: 'AT_',
  RESOLVE: 'RESOLVE_',
  F: 'F_',
  PR: 'PR_',
  P: 'P_',
  W: 'W',
  EPOLL: 'EPOLL_',
};
const names = { 'F.CLOEXEC': 'FD_CLOEXEC', 'W.ALL': '__WALL', 'EPOLL.ET': 'EPOLLET' };
const cross = '/usr/aarch64-linux-gnu/include';
const architectures = {
  x64: [],
  // An x86 compiler lays structures out as arm64's does, once it is told not to be one.
  arm64: ['-U__x86_64__', '-nostdinc', '-isystem', cross],
};
let wrong = 0;
for (const [arch, options] of Object.entries(architectures)) {
  if (arch === 'arm64' && !existsSync(cross)) {
    console.log('arm64: not compared, linux-libc-dev-arm64-cross is not installed');
    continue;
  }
  const { flags, layouts } = tables(arch);
  const facts = [];
  for (const [table, entries] of Object.entries(flags))
    for (const [name, value] of Object.entries(entries)) {
      const macro = names[`${table}.${name}`] ?? `${prefixes[table] ?? table}${name}`;
      facts.push({ macro, test: `${macro} == ${value}`, says: `${macro} is not ${value}` });
    }
  for (const [struct, { size, ...fields }] of Object.entries(layouts)) {
    const type = struct === 'siginfo' ? 'siginfo_t' : `struct ${struct}`;
    facts.push({ test: `sizeof(${type}) == ${size}`, says: `${struct} has not ${size} bytes` });
    for (const [field, offset] of Object.entries(fields)) {
      const test = `__builtin_offsetof(${type}, ${field}) == ${offset}`;
      facts.push({ test, says: `${struct}.${field} is not at ${offset}` });
    }
  }
  // Headers may be older than a flag: then there is nothing to compare it with. Constants of an enum are no macros.
  const known = macros(options);
  const enums = new Set(['P_ALL', 'P_PID', 'P_PIDFD']);
  const judged = facts.filter(({ macro }) => !macro || known.has(macro) || enums.has(macro));
  const text = [...includes, '#include <asm/siginfo.h>', ...judged.map(assertion), ''].join('\n');
  const compiled = spawnSync('gcc', ['-fsyntax-only', ...options, '-x', 'c', '-'], { input: text, encoding: 'utf8' });
  const failures = [...compiled.stderr.matchAll(/error: (.*)/g)].map((match) => match[1]);
  for (const failure of failures) console.error(`${arch}: ${failure}`);
  wrong += failures.length;
  const newer = facts.filter((fact) => !judged.includes(fact)).map(({ macro }) => macro);
  console.log(
    `${arch}: ${judged.length} compared${newer.length ? `, unknown to the headers: ${newer.join(' ')}` : ''}`,
  );
}
process.exit(wrong === 0 ? 0 : 1);

function assertion({ test, says }) {
  return `_Static_assert(${test}, "${says}");`;
}

/** The tables as a program on the other architecture sees them. */
function tables(arch) {
  const script = `Object.defineProperty(process, 'arch', { value: '${arch}' });
    const [flags, { layouts }] = await Promise.all(['flags', 'layouts'].map((name) => import('${source}' + name + '.ts')));
    console.log(JSON.stringify({ flags, layouts }));`;
  const args = ['--import', './test/loader/register.js', '--input-type=module', '-e', script];
  return JSON.parse(execFileSync(process.execPath, args, { encoding: 'utf8' }));
}

function macros(options) {
  const args = ['-E', '-dM', ...options, '-x', 'c', '-'];
  const text = execFileSync('gcc', args, { input: includes.join('\n'), encoding: 'utf8' });
  return new Set([...text.matchAll(/^#define (\w+)/gm)].map((match) => match[1]));
}
