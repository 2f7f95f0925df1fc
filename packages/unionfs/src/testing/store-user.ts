// One of several processes that use a store at once, until it has done its rounds or is killed. It says what it did, line by line:
// `+ NAME` when a snapshot is committed, `- NAME` before it goes.
import { existsSync, readdirSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { openStore, type Store, StoreError } from '../index.js';

const [root = '', driver = '', me = '', rounds = '', durability = ''] = process.argv.slice(2);

/** A sequence of its own that is the same each time. */
let seed = [...me].reduce((sum, char) => sum * 31 + char.charCodeAt(0), 7);
const random = (below: number) => {
  seed = (seed * 1103515245 + 12345) % 2147483648;
  return Math.floor((seed / 2147483648) * below);
};
const say = (line: string) => writeSync(1, `${line}\n`);
const FILES = 3;

/** What a snapshot's own files hold. */
const content = (name: string, file: number) => `${name} ${file} `.repeat(1 + ((name.length + file) % 700));

/** Whether a snapshot is whole: all files of all that it lies on. */
async function verify(store: Store, name: string): Promise<void> {
  const chain: string[] = [];
  for (let at: string | undefined = name; at; at = (await store.stat(at)).parent) chain.push(at);
  using mount = await store.openMount(name, { readonly: true });
  const path = `/proc/self/fd/${mount.fd.number}`;
  if (readdirSync(path).length !== chain.length * FILES) throw new Error(`${name} does not hold what it should`);
  for (const each of chain)
    for (let i = 0; i < FILES; i++)
      if (readFileSync(`${path}/${each}-${i}`, 'utf8') !== content(each, i))
        throw new Error(`${name}: ${each}-${i} is wrong`);
}

/** Errors that another process may cause at any time. */
const meanwhile = (error: unknown) => {
  if (!StoreError.is(error, 'notFound', 'inUse', 'hasChildren', 'locked')) throw error;
};

async function use(): Promise<void> {
  await using store = await openStore({
    root,
    driver: driver as 'overlay2',
    durability: durability === 'commit' ? 'commit' : 'none',
  });
  say('ready');
  const mine: string[] = [];
  using lease = await store.lease();
  for (let i = 0; i < Number(rounds); i++) {
    const name = `${me}-${i}`;
    const parent = mine.length && random(3) ? mine[random(mine.length)] : undefined;
    await lease.add(name);
    await store.prepare('shared key', { temporary: true }).catch((error) => {
      if (!StoreError.is(error, 'exists')) meanwhile(error);
    });
    await store.prepare(`${name} work`, { ...(parent ? { parent } : {}), temporary: random(2) === 0 });
    {
      using mount = await store.openMount(`${name} work`);
      for (let f = 0; f < FILES; f++) writeFileSync(`/proc/self/fd/${mount.fd.number}/${name}-${f}`, content(name, f));
    }
    await store.commit(name, `${name} work`);
    mine.push(name);
    say(`+ ${name}`);
    await verify(store, mine[random(mine.length)] as string);
    if (random(3) === 0) {
      const [gone] = mine.splice(random(mine.length), 1);
      say(`- ${gone}`);
      await store.remove(gone as string).then(undefined, (error) => {
        meanwhile(error);
        mine.push(gone as string);
        say(`+ ${gone}`);
      });
    }
    // What others hold a lease on stays.
    if (random(4) === 0) await store.gc({ roots: mine });
    if (random(4) === 0) await store.cleanup();
    if (random(4) === 0) for await (const { name } of store.walk()) await store.stat(name).catch(meanwhile);
    await store.remove('shared key').catch(meanwhile);
  }
  for (const name of mine) await verify(store, name);
  say('done');
  // Its lease must last until the others are done too.
  while (!existsSync(`${root}/end`)) await new Promise((resolve) => setTimeout(resolve, 20));
}

await use();
