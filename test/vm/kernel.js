// Debian kernels, unpacked beside the repository without being installed.

import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run, Unavailable } from './host.js';

/** The kernels on offer: the suites that each one comes from. */
export const kernels = {
  bookworm: ['bookworm', 'bookworm-updates'],
  backports: ['bookworm-backports'],
  sid: ['sid'],
};

/**
 * Unpacks a kernel once and answers from the cache afterwards.
 * @returns {{ release: string, image: string, tree: string }} `tree` is laid out like a merged-/usr root, so that it
 * can be stacked over one: `usr/lib/modules/<release>/`.
 */
export function kernel(name, cache) {
  if (!Object.hasOwn(kernels, name)) {
    throw new TypeError(`no kernel is called '${name}'; there are ${Object.keys(kernels).join(', ')}`);
  }
  const tree = join(cache, name);
  if (!existsSync(tree)) download(name, cache, tree);
  const [release] = readdirSync(join(tree, 'usr/lib/modules'));
  // Newer packages have it beside the modules.
  const places = [join(tree, 'boot', `vmlinuz-${release}`), join(tree, 'usr/lib/modules', release, 'vmlinuz')];
  return { release, image: places.find(existsSync), tree };
}

function download(name, cache, tree) {
  mkdirSync(cache, { recursive: true });
  writeFileSync(join(cache, '.gitignore'), '*\n');
  const work = mkdtempSync(join(cache, `${name}-`));
  try {
    const site = mirror();
    const apt = privateApt(
      join(work, 'apt'),
      kernels[name].map((suite) => `${site} ${suite} main`),
    );
    apt('apt-get', 'update');
    apt('apt-get', 'download', ...kernelPackages(apt));
    const unpacked = join(work, 'tree');
    const debs = join(work, 'apt/debs');
    for (const deb of readdirSync(debs)) run('dpkg-deb', ['--extract', join(debs, deb), unpacked]);
    if (existsSync(join(unpacked, 'lib'))) {
      mkdirSync(join(unpacked, 'usr'), { recursive: true });
      renameSync(join(unpacked, 'lib/modules'), join(unpacked, 'usr/lib-modules'));
      rmSync(join(unpacked, 'lib'), { recursive: true });
      mkdirSync(join(unpacked, 'usr/lib'), { recursive: true });
      renameSync(join(unpacked, 'usr/lib-modules'), join(unpacked, 'usr/lib/modules'));
    }
    rmSync(join(unpacked, 'usr/share'), { recursive: true, force: true });
    const [release] = readdirSync(join(unpacked, 'usr/lib/modules'));
    run('depmod', ['-b', join(unpacked, 'usr'), release]);
    publish(unpacked, tree);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Where this machine gets its own Debian from; every suite lies there. */
function mirror() {
  const targets = run('apt-get', ['indextargets', '--format', '$(SITE) $(CODENAME)', 'Created-By: Packages']);
  const site = /^(\S+) (?!\S*-security)\S+$/m.exec(targets)?.[1];
  if (!site) throw new Unavailable('apt has no source of Debian packages: /etc/apt/sources.list is empty');
  return site;
}

/** Another run may have unpacked the same kernel meanwhile; its copy is as good. */
function publish(unpacked, tree) {
  try {
    renameSync(unpacked, tree);
  } catch (error) {
    if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
  }
}

/** The metapackage leads to the image, and in newer Debian from there to separate binary and modules packages. */
function kernelPackages(apt) {
  const found = new Set();
  const queue = ['linux-image-amd64'];
  for (const name of queue) {
    for (const [, dependency] of apt('apt-cache', 'depends', name).matchAll(/^ +\|?Depends: (\S+)$/gm)) {
      if (!/^linux-(image|binary|modules)-\d/.test(dependency) || found.has(dependency)) continue;
      found.add(dependency);
      queue.push(dependency);
    }
  }
  if (found.size === 0) throw new Unavailable('apt knows no kernel behind linux-image-amd64');
  return found;
}

/** Runs apt with its own sources and state, reading from the machine only its settings for proxies and the like. */
function privateApt(folder, sources) {
  const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg';
  if (!existsSync(keyring)) throw new Unavailable(`${keyring} is missing, so Debian's packages cannot be verified`);
  const debs = join(folder, 'debs');
  for (const path of ['lists/partial', 'archives/partial', 'debs']) mkdirSync(join(folder, path), { recursive: true });
  writeFileSync(join(folder, 'status'), '');
  writeFileSync(
    join(folder, 'sources.list'),
    sources.map((source) => `deb [arch=amd64 signed-by=${keyring}] ${source}\n`).join(''),
  );
  writeFileSync(
    join(folder, 'apt.conf'),
    `#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear Acquire::IndexTargets::deb::DEP-11;
#clear Acquire::IndexTargets::deb::DEP-11-icons-small;
#clear Acquire::IndexTargets::deb::DEP-11-icons;
#clear Acquire::IndexTargets::deb::DEP-11-icons-hidpi;
#clear Acquire::IndexTargets::deb::DEP-11-icons-large;
APT::Architecture "amd64";
APT::Sandbox::User "root";
Acquire::Languages "none";
Dir::State "${folder}";
Dir::State::status "${join(folder, 'status')}";
Dir::State::lists "${join(folder, 'lists')}";
Dir::Cache "${folder}";
Dir::Cache::archives "${join(folder, 'archives')}";
Dir::Etc::sourcelist "${join(folder, 'sources.list')}";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
`,
  );
  return (program, ...args) => run(program, ['-qq', '-c', join(folder, 'apt.conf'), ...args], { cwd: debs });
}
