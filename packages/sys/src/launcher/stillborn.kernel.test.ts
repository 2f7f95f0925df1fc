// Kernels that count how often a group was killed end whoever is born in one that ever was: the child enters it itself then.
import { existsSync, mkdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Fd } from '../fd.js';
import { type LaunchPlan, LinuxKernel, replaceKernel } from '../kernel.js';
import { CLONE } from '../raw/flags.js';
import { cgroup2, children, finished, programOf } from './fixture.js';
import { errand, errandAsync, launch, launchAsync } from './launch.js';
import { LaunchProgram } from './program.js';
import { StringArray } from './step.js';

describe.skipIf(!cgroup2)('a cgroup that was killed [needs root and cgroup v2]', () => {
  const path = join(cgroup2 ?? '/', `isotest-killed-${process.pid}`);
  let directory: Fd;
  const killed = (name?: string) => {
    const made = name ? `${path}-${name}` : path;
    mkdirSync(made);
    if (existsSync(join(made, 'cgroup.kill'))) writeFileSync(join(made, 'cgroup.kill'), '1');
    return made;
  };
  beforeAll(() => {
    directory = Fd.open(killed(), { directory: true });
  });
  afterAll(() => {
    directory.close();
    rmdirSync(path);
  });

  /** Ends with 0 where it is in the group; its cgroup namespace shows that as the top. */
  const looking = (inside: string, flags = 0) => {
    const program = new LaunchProgram();
    program.cgroup(directory);
    if (flags) program.unshare(flags);
    const script = `grep -qx 0::${inside} /proc/self/cgroup`;
    program.step('exec', 'execve', [
      '/bin/sh',
      new StringArray(['sh', '-c', script]),
      new StringArray(['PATH=/usr/bin:/bin']),
    ]);
    return program;
  };
  const place = path.slice(cgroup2?.length ?? 0);

  it('has processes that are launched into it', () => {
    expect(finished(launch(looking(place))).code).toBe(0);
    expect(finished(launch(looking('/', CLONE.NEWCGROUP))).code).toBe(0);
    expect(children()).toEqual([]);
  });

  it('has those that are launched without waiting', async () => {
    expect(finished(await launchAsync(looking(place))).code).toBe(0);
    expect(finished(await launchAsync(looking('/', CLONE.NEWCGROUP | CLONE.NEWPID))).code).toBe(0);
    const many = Array.from({ length: 20 }, () => launchAsync(looking(place)));
    expect((await Promise.all(many)).map((one) => finished(one).code)).toEqual(Array(20).fill(0));
    expect(children()).toEqual([]);
  });

  it('has errands', async () => {
    for (const run of [errand, errandAsync]) {
      const program = new LaunchProgram('errand');
      program.cgroup(directory);
      const file = program.step('host', 'openat', [-100, '/proc/self/cgroup', 0x80000]);
      const text = program.output(4096);
      program.step('host', 'read', [file, text, 4096]);
      await run(program);
      using fd = Fd.own(file.value as number);
      expect(fd.number).toBeGreaterThan(2);
      expect(text.bytes.toString('latin1')).toContain(`0::${place}\n`);
    }
    expect(children()).toEqual([]);
  });

  it('is as any other where it is gone', async () => {
    const gone = killed('gone');
    using fd = Fd.open(gone, { directory: true });
    rmdirSync(gone);
    const program = () => programOf((it) => it.cgroup(fd));
    expect(() => launch(program())).toThrow(expect.objectContaining({ code: 'ENOENT' }));
    await expect(launchAsync(program())).rejects.toMatchObject({ code: 'ENOENT' });
    expect(children()).toEqual([]);
  });

  it('says what the child could not do where it goes before that enters it', async () => {
    for (const start of [launch, launchAsync]) {
      const going = killed('going');
      using fd = Fd.open(going, { directory: true });
      let launches = 0;
      const restore = replaceKernel(
        new (class extends LinuxKernel {
          override launch(plan: LaunchPlan) {
            if (++launches === 2) rmdirSync(going);
            return super.launch(plan);
          }
        })(),
      );
      const attempt = (async () => finished(await start(programOf((it) => it.cgroup(fd)))).code)();
      const outcome = await attempt.catch((error) => error).finally(restore);
      // A kernel that does not count kills lets it be born there.
      if (launches === 1) {
        expect(outcome).toBe(0);
        rmdirSync(going);
      } else
        expect(outcome).toMatchObject({
          code: 'ENODEV',
          syscall: 'write',
          hint: expect.stringContaining('cgroup.kill'),
        });
      expect(children()).toEqual([]);
    }
  });
});
