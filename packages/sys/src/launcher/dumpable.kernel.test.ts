import { execFileSync } from 'node:child_process';
import { readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { fromSources, importSource } from '../../../../test/typescript.js';
import { CLONE, errand, Fd, LaunchProgram, launch, park } from '../index.js';
import { type Build, errandOf, programOf, root, self, textOf, thrownBy, userns } from './fixture.js';

describe('this process', () => {
  it.skipIf(!root)('stays readable after a child has joined where others live [needs root]', () => {
    const other = park(CLONE.NEWUTS | CLONE.NEWPID | CLONE.NEWNET);
    const before = self();
    const held = ['uts', 'net', 'pid'].map((name) => Fd.open(`/proc/${other.pid}/ns/${name}`));
    try {
      const enter: Build = (program) => {
        for (const [i, type] of [CLONE.NEWUTS, CLONE.NEWNET, CLONE.NEWPID].entries()) program.join(held[i] as Fd, type);
      };
      const inside = textOf(
        ['/usr/bin/readlink', '/proc/self/ns/uts', '/proc/self/ns/net', '/proc/self/ns/pid'],
        enter,
      );
      expect(inside.trim().split('\n')).toEqual(
        ['uts', 'net', 'pid'].map((name) => readlinkSync(`/proc/${other.pid}/ns/${name}`)),
      );
      expect(self()).toEqual(before);
      thrownBy(() => launch(programOf(enter, ['/no/such'])));
      expect(self()).toEqual(before);
      errand(errandOf((program) => program.join(held[0] as Fd, CLONE.NEWUTS)));
      expect(self()).toEqual(before);
    } finally {
      for (const fd of held) fd.close();
      other.end();
    }
  });

  it.skipIf(!root)('is dumpable again, whichever threads launch at once [needs root]', async () => {
    const script = `
      const { parentPort } = require('node:worker_threads');
      ${importSource(new URL('../index.ts', import.meta.url))}.then(({ CLONE, errand, Fd, LaunchProgram }) => {
        for (let i = 0; i < 40; i++) {
          const uts = Fd.open('/proc/self/ns/uts');
          const program = new LaunchProgram('errand');
          program.join(uts, CLONE.NEWUTS);
          errand(program);
          uts.close();
        }
        parentPort.postMessage('done');
      }, (error) => parentPort.postMessage(String(error)));`;
    const workers = Array.from(
      { length: 4 },
      () =>
        new Promise((resolve) => {
          const worker = new Worker(script, { eval: true, execArgv: ['--conditions=iso-source'] });
          worker.once('message', (message) => void worker.terminate().then(() => resolve(message)));
        }),
    );
    expect(await Promise.all(workers)).toEqual(['done', 'done', 'done', 'done']);
    const state = new LaunchProgram('errand');
    const dumpable = state.step('host', 'prctl', [3, 0, 0, 0, 0]);
    errand(state);
    expect(dumpable.value).toBe(1);
  });

  it.skipIf(!userns)(
    'lets a child write about itself before it joins, also for a plain user [needs user namespaces]',
    () => {
      const script = `
      import { CLONE, Fd, LaunchProgram, launch, park, reap, StringArray, syscall } from ${JSON.stringify(join(import.meta.dirname, '../index.ts'))};
      const other = park(CLONE.NEWUSER | CLONE.NEWUTS);
      const user = Fd.open('/proc/' + other.pid + '/ns/user');
      const program = new LaunchProgram();
      program.join(user, CLONE.NEWUSER);
      const file = program.step('birth', 'openat', [-100, '/proc/self/oom_score_adj', 1, 0]);
      program.step('birth', 'write', [file, '777', 3]);
      const text = 'read value </proc/self/oom_score_adj; exit $((value - 770))';
      program.step('exec', 'execve', ['/bin/sh', new StringArray(['sh', '-c', text]), new StringArray([])]);
      const { code } = reap(launch(program).pidfd, { block: true });
      other.end();
      console.log(code, syscall('prctl', 3, 0, 0, 0, 0));`;
      const node = [process.execPath, ...fromSources, '--input-type=module', '-e', script];
      const plain = root ? ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'] : [];
      expect(execFileSync('env', [...plain, ...node], { encoding: 'utf8' })).toBe('7 1\n');
    },
  );
});
