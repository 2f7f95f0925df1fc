// Labels of an image and of a container that say to others what is to be done: paths of the host, commands. They are kept, and shown; who
// wants such a thing says it by an option.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { spawn } from '@iso/process';
import { afterAll, describe, expect, it } from 'vitest';
import { command } from '../testing/command.js';
import { lacking } from '../testing/lacking.js';

const missing = lacking('busybox');
const folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
const outside = join(folder, 'outside');
mkdirSync(outside);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** What crun, podman, CRI-O, containerd, systemd and docker know. */
const labels: Record<string, string> = {
  'run.oci.hooks.stdout': `${outside}/stdout`,
  'run.oci.hooks.stderr': `${outside}/stderr`,
  'run.oci.handler': 'krun',
  'run.oci.systemd.subgroup': '../../outside',
  'run.oci.mount_context_type': 'context',
  'run.oci.keep_original_groups': '1',
  'org.systemd.property.ExecStopPost': `[('/bin/sh', ['sh', '-c', 'touch ${outside}/unit'], false)]`,
  'io.podman.annotations.cid-file': `${outside}/cid`,
  'io.podman.annotations.volumes-from': outside,
  'io.podman.annotations.privileged': 'TRUE',
  'io.podman.annotations.seccomp': 'unconfined',
  'io.kubernetes.cri-o.Volumes': JSON.stringify([{ host_path: outside, container_path: '/outside' }]),
  'io.kubernetes.cri-o.MountPoint': outside,
  'io.kubernetes.cri-o.LogPath': `${outside}/log`,
  'io.containerd.snapshot/overlay.upperdir': outside,
  'containerd.io/restart.loguri': `binary:///bin/sh?-c=touch ${outside}/log`,
  'containerd.io/snapshot/cri.layer-digest': '../../../outside',
  'com.docker.volume.mountpoint': outside,
  'org.opencontainers.image.ref.name': '../../outside',
};

function iso(...args: string[]) {
  return spawnSync(process.execPath, [...command, ...args], {
    encoding: 'utf8',
    env: { ...process.env, ISO_ROOT: join(folder, 'state') },
  });
}

describe.skipIf(missing)(`labels with paths and commands${missing}`, () => {
  it('are kept, shown and not acted on (CVE-2026-53488, CVE-2026-53489, CVE-2026-53492)', { timeout: 300_000 }, () => {
    const context = join(folder, 'context');
    mkdirSync(join(context, 'bin'), { recursive: true });
    spawnSync('sh', ['-c', `cp "$(command -v busybox)" ${context}/bin/sh`]);
    const label = ([name, value]: [string, string]) => `LABEL ${JSON.stringify(name)}=${JSON.stringify(value)}`;
    writeFileSync(
      join(context, 'Dockerfile'),
      ['FROM scratch', 'COPY bin /bin', ...Object.entries(labels).map(label)].join('\n'),
    );
    const run = ['run', '--rm', '--network', 'none'];
    const script = ['sh', '-c', 'test ! -e /outside && grep -E "^(CapEff|Seccomp):" /proc/self/status'];
    expect(iso('build', '-t', 'labelled', context)).toMatchObject({ status: 0 });
    const shown = iso('image', 'inspect', '-f', '{{json .Config.Labels}}', 'labelled');
    expect(JSON.parse(shown.stdout)).toEqual(labels);
    const plain = iso(...run, '/', ...script);
    expect(plain).toMatchObject({ status: 0, stderr: '' });
    const options = Object.entries(labels).flatMap(([name, value]) => ['--label', `${name}=${value}`]);
    for (const [more, root] of [
      [[], 'labelled'],
      [options, '/'],
    ] as const)
      expect(iso(...run, ...more, root, ...script)).toMatchObject({ status: 0, stdout: plain.stdout, stderr: '' });
    expect(iso('create', '--name', 'shown', ...options, '/', 'true')).toMatchObject({ status: 0 });
    const kept = iso('inspect', '-f', '{{json .Config.Labels}}', 'shown');
    expect(iso('rm', 'shown')).toMatchObject({ status: 0 });
    expect(JSON.parse(kept.stdout)).toEqual(labels);
    expect(readdirSync(outside)).toEqual([]);

    // An option is what is acted on.
    const asked = iso(...run, '-v', `${outside}:/outside`, 'labelled', 'sh', '-c', 'echo >/outside/mark');
    expect(asked).toMatchObject({ status: 0, stderr: '' });
    expect(readdirSync(outside)).toEqual(['mark']);
  });

  it('do not reach the terminal as escapes', { timeout: 300_000 }, async () => {
    const context = join(folder, 'escapes');
    mkdirSync(join(context, 'bin'), { recursive: true });
    spawnSync('sh', ['-c', `cp "$(command -v busybox)" ${context}/bin/sh`]);
    writeFileSync(
      join(context, 'Dockerfile'),
      'FROM scratch\nCOPY bin /bin\nLABEL of="\x1b[2J\x9b2J\u202e"\nCMD ["/bin/sh", "\\u001b]0;title\\u0007"]\n',
    );
    expect(iso('build', '-t', 'escapes', context)).toMatchObject({
      status: 0,
      stderr: expect.not.stringMatching(/\x1b/),
    });
    expect(iso('create', '--name', 'escapes', 'escapes')).toMatchObject({ status: 0 });
    for (const args of [
      ['history', '--no-trunc', 'escapes'],
      ['history', '--no-trunc', '--format', '{{.CreatedBy}}', 'escapes'],
      ['ps', '-a', '--no-trunc', '--format', '{{.Command}} {{.Labels}}'],
      ['image', 'inspect', '-f', '{{.Config.Labels.of}} {{.Config.Cmd}}', 'escapes'],
      ['inspect', 'escapes'],
      ['events', '--since', '1h', '--until', '0s'],
    ]) {
      const shown = await onTerminal(args);
      expect([args, shown.match(/[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202e]/g), /\\u001b/.test(shown)]).toEqual([
        args,
        null,
        true,
      ]);
    }
  });
});

async function onTerminal(args: string[]): Promise<string> {
  const env = Object.entries({ ...process.env, ISO_ROOT: join(folder, 'state') }).map(([name, value]) => [
    name,
    value ?? '',
  ]);
  const child = await spawn(process.execPath, [...command, ...args], { stdio: 'pty', env: Object.fromEntries(env) });
  let shown = '';
  for await (const chunk of child.stdout as NodeJS.ReadableStream) shown += chunk;
  return shown;
}
