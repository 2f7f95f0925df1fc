import { execFile, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { fromSources } from '../../../test/typescript.js';
import { Cgroup, delegate, detect, findDelegated, type Hierarchy, hierarchyOf, type Layout } from './index.js';
import { has, testParent, unified } from './kit.js';

const parent = testParent('delegation');

const execute = promisify(execFile);
const UID = 65_534;

/** A program of the plain user's, born in the group: a shell writes itself there while it still may. */
function asUser(group: Cgroup, source: string) {
  const script = `import { Cgroup, findDelegated, openDelegated, onlyVersion, detect } from ${JSON.stringify(`${import.meta.dirname}/index.ts`)};
    ${source}`;
  return spawnSync(
    'sh',
    [
      '-c',
      'echo 0 > "$0/cgroup.procs" && exec "$@"',
      group.path('freezer') as string,
      'setpriv',
      `--reuid=${UID}`,
      `--regid=${UID}`,
      '--clear-groups',
      process.execPath,
      ...fromSources,
      '--input-type=module',
      '-e',
      script,
    ],
    { encoding: 'utf8', env: { ...process.env, HOME: '/', TSX_DISABLE_CACHE: '1' } },
  );
}

describe.skipIf(!has(unified, 'freezer', 2))('delegation on v2 [needs root and a v2 tree]', () => {
  const layout = unified as Layout;

  it('gives away what makes groups, and not the limits', async () => {
    const group = await Cgroup.create('give', { parent, layout, controllers: [] });
    delegate(group, UID, UID);
    const owner = (file: string) => statSync(`${group.path('freezer')}/${file}`).uid;
    for (const file of ['', 'cgroup.procs', 'cgroup.subtree_control', 'cgroup.threads']) expect(owner(file)).toBe(UID);
    for (const file of ['cgroup.freeze', 'cgroup.kill', 'cgroup.max.depth']) expect(owner(file)).toBe(0);
    expect(() => delegate(group, -1, 0)).toThrow(TypeError);
    await group.remove();
  });

  it('root without a subtree of its own finds what it may write', () => {
    const found = findDelegated({ layout });
    expect(readFileSync('/proc/self/cgroup', 'utf8')).toContain('0::');
    expect(found?.path).toBe('/');
  });

  it('a plain user, started inside, finds it, leaves for a leaf, makes groups with limits, starts and kills', async () => {
    const group = await Cgroup.create('user', { parent, layout });
    delegate(group, UID, UID);
    const { stdout, stderr, status } = asUser(
      group,
      `const layout = onlyVersion(detect(), 2);
       const found = findDelegated({ layout });
       const mine = await openDelegated({ layout });
       const limits = found.controllers.includes('pids') ? { pids: { max: 5 } } : {};
       const job = await Cgroup.create('job', { parent: mine, limits });
       const out = { path: found.path, populated: found.populated, procs: mine.pids, children: mine.children().length, max: job.stats().pids?.max };
       let refused;
       try { mine.write('cgroup.max.depth', '1'); } catch (error) { refused = error.reason; }
       await job.remove();
       mine[Symbol.dispose]();
       console.log(JSON.stringify({ ...out, refused }));`,
    );
    expect(stderr).toBe('');
    expect(status).toBe(0);
    const result = JSON.parse(stdout);
    expect(result).toMatchObject({
      path: `/${parent}/${group.name}`,
      populated: true,
      procs: [],
      children: 2,
      refused: 'notDelegated',
    });
    if (has(layout, 'pids', 2)) expect(result.max).toBe(5);
    await group[Symbol.asyncDispose]();
  });

  it('a group that is marked as delegated is the highest, for root too', async () => {
    const group = await Cgroup.create('marked', { parent, layout, controllers: [] });
    const below = await group.create('below', { controllers: [] });
    const source = `import { findDelegated, onlyVersion, detect } from ${JSON.stringify(`${import.meta.dirname}/index.ts`)};
      process.stdin.on('data', () => console.log(findDelegated({ layout: onlyVersion(detect(), 2) }).path));`;
    const node = [process.execPath, ...fromSources, '--input-type=module', '-e', source];
    const script = 'echo 0 > "$0/cgroup.procs" && exec "$@"';
    const child = spawn('sh', ['-c', script, below.path() as string, ...node], { stdio: ['pipe', 'pipe', 'inherit'] });
    const found = async () => {
      child.stdin.write('look\n');
      return String((await once(child.stdout, 'data'))[0]).trim();
    };
    group.setXattr('user.delegate', '0');
    expect(await found()).toBe('/');
    group.setXattr('user.delegate', '1');
    expect(await found()).toBe(`/${parent}/${group.name}`);
    child.stdin.end();
    expect(await once(child, 'exit')).toEqual([0, null]);
    await group[Symbol.asyncDispose]();
    below[Symbol.dispose]();
  });

  it('a plain user outside is told who can grant it', async () => {
    const group = await Cgroup.create('outside', { parent, layout, controllers: [] });
    const { stdout, status } = asUser(
      group,
      `const layout = onlyVersion(detect(), 2);
       const reasons = [findDelegated({ layout }) === undefined];
       for (const attempt of [() => openDelegated({ layout }), () => Cgroup.create('x', { layout })])
         await attempt().catch((error) => reasons.push(error.reason, /Delegate=yes/.test(error.hint)));
       console.log(JSON.stringify(reasons));`,
    );
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toEqual([true, 'notDelegated', true, 'notDelegated', true]);
    await group[Symbol.asyncDispose]();
  });

  it('a read-only hierarchy, and none at all, are typed errors, and change nothing', async () => {
    const pids = hierarchyOf(detect(), 'pids') as Hierarchy;
    const limits = { pids: { max: 1000 } };
    const texts = () => [
      readFileSync(`${pids.mount}/${parent}/pids.max`, 'utf8'),
      ...detect().hierarchies.map(({ mount }) => readdirSync(`${mount}/${parent}`).join()),
    ];
    const script = (mount: string) =>
      `${mount} && exec ${process.execPath} ${fromSources.join(' ')} --input-type=module -e '
        import { Cgroup } from "${import.meta.dirname}/index.ts";
        const say = (error) => console.log(error.name, error.reason, error.code);
        await Cgroup.create("x", { parent: "${parent}" }).catch(say);
        const there = await Cgroup.open("${parent}").catch(say);
        await there?.set(${JSON.stringify(limits)}).catch(say);
        try { there?.write("cgroup.procs", "1"); } catch (error) { say(error); }
        there?.[Symbol.dispose]();'`;
    const inNamespace = async (mount: string) =>
      (await execute('unshare', ['-m', 'sh', '-c', script(mount)])).stdout.trim();
    const all = 'for m in $(grep -E " - cgroup2? " /proc/self/mountinfo | cut -d" " -f5)';
    const before = texts();
    const [readOnly, none] = await Promise.all([
      inNamespace(`${all}; do mount -o remount,bind,ro $m; done`),
      inNamespace(`${all}; do umount -l $m; done; umount -l /sys/fs/cgroup 2>/dev/null; true`),
    ]);
    expect(readOnly).toBe(Array(3).fill('CgroupError readOnly EROFS').join('\n'));
    expect(none).toMatch(/^(UnsupportedError .* EUNSUPPORTED\n?){2}$/);
    expect(texts()).toEqual(before);
  });
});
