// With ISO_LONG=1 against podman: the same Dockerfile gives the same files and the same config.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { command } from '../testing/command.js';
import { lacking } from '../testing/lacking.js';

let folder = '';
/** Podman takes one of 50 characters at the most. */
let runroot = '';
let env: NodeJS.ProcessEnv = {};
const at = (name: string) => join(folder, name);

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'iso-build-'));
  runroot = mkdtempSync('/tmp/iso-run-');
  env = { ...process.env, ISO_ROOT: at('state'), FROM_ENV: 'environment' };
});
afterAll(() => {
  for (const path of [folder, runroot]) rmSync(path, { recursive: true, force: true });
});

function iso(args: string[], input?: string) {
  return spawnSync(process.execPath, [...command, ...args], {
    encoding: 'utf8',
    env,
    ...(input === undefined ? {} : { input }),
  });
}

function write(name: string, content: string, mode = 0o644) {
  mkdirSync(dirname(at(name)), { recursive: true });
  writeFileSync(at(name), content, { mode });
}

/** A context that has busybox, whose Dockerfile begins with its applets. */
function context(name: string, dockerfile: string): string {
  mkdirSync(at(name), { recursive: true });
  const busybox = execFileSync('sh', ['-c', 'command -v busybox'], { encoding: 'utf8' }).trim();
  copyFileSync(busybox, at(`${name}/busybox`));
  utimesSync(at(`${name}/busybox`), 1_000_000_000, 1_000_000_000);
  writeFileSync(at(`${name}/Dockerfile`), dockerfile);
  return at(name);
}

const TOOLS = 'COPY busybox /bin/busybox\nCOPY busybox /bin/sh\n';

function build(args: string[], input?: string): string {
  const { status, stdout, stderr } = iso(['build', ...args], input);
  expect(stderr + stdout).not.toMatch(/^iso: /m);
  expect(status).toBe(0);
  return stderr;
}

function inspect(name: string) {
  const [image] = JSON.parse(iso(['image', 'inspect', name]).stdout);
  return image as { Id: string; Config: Record<string, unknown>; RootFS: { Layers: string[] } };
}

/** What umoci unpacks, by find(1); times of directories differ between any two builds, as do those of files that are made. */
function files(layout: string, tag: string): string[] {
  const bundle = at(`bundle-${Math.random()}`);
  execFileSync('umoci', ['unpack', '--image', `${layout}:${tag}`, bundle], { stdio: 'ignore' });
  const text = execFileSync(
    'sh',
    [
      '-c',
      `cd "$1" && find . -printf '%p %y %m %U:%G %l ' \\( -type f -exec sha256sum {} \\; -o -printf '\\n' \\)`,
      'sh',
      join(bundle, 'rootfs'),
    ],
    { encoding: 'utf8' },
  );
  rmSync(bundle, { recursive: true });
  return text.trim().split('\n').sort();
}

const judges = lacking('busybox', 'podman', 'umoci');
/** Podman alone takes longer than all the rest. */
const long = process.env.ISO_LONG !== undefined;

describe('iso build', () => {
  if (long) {
    it.skipIf(judges !== '')(
      `makes what podman makes${judges}`,
      () => {
        const directory = context(
          'same',
          `ARG BASE=scratch
FROM $BASE AS tools
${TOOLS}
FROM tools AS work
ARG WORD=default
ARG UNSET
ENV GREETING="hello $WORD" \\
    # a comment
    OTHER=\${UNSET:-none}
SHELL ["/bin/busybox", "sh", "-c"]
RUN busybox mkdir -p /etc /made/deep && busybox echo "root:x:0:0::/:/bin/sh" >/etc/passwd \\
 && busybox echo "someone:x:7:8::/:/bin/sh" >>/etc/passwd && busybox echo "$GREETING" >/made/deep/text
WORKDIR /work
WORKDIR sub
COPY --chown=someone a* dir /copied/
COPY --chmod=0711 dir/x ./renamed
COPY link/ /through/
ADD archive.tar.gz /unpacked/
RUN ["/bin/busybox", "touch", "exec form"]

FROM tools
COPY --from=work /made /copied /all/
COPY --from=work /unpacked/ /work/sub /etc/passwd /some/
LABEL a="b c" d=$NONE
EXPOSE 80 53/udp
VOLUME /data
USER 7:8
STOPSIGNAL SIGINT
ENTRYPOINT ["/bin/sh"]
CMD ["-c", "exit"]
`,
        );
        for (const name of ['a1', 'a2', 'dir/x', 'dir/deep/y', 'ignored/z', 'dir/skipped.log'])
          write(`same/${name}`, name, 0o640);
        symlinkSync('dir', at('same/link'));
        symlinkSync('/absolute', at('same/dir/l'));
        write('same/.dockerignore', '**/*.log\nignored\n');
        execFileSync('tar', ['czf', 'archive.tar.gz', '--owner=3', '--group=4', 'a1', 'dir'], { cwd: directory });
        build(['-t', 'same:1', '--build-arg', 'WORD=given', directory]);
        const podman = [
          '--root',
          at('podman'),
          '--runroot',
          runroot,
          '--tmpdir',
          at('tmp'),
          '--storage-driver',
          'vfs',
          '--cgroup-manager',
          'cgroupfs',
          '--events-backend',
          'none',
        ];
        const run = (...args: string[]) =>
          execFileSync('podman', [...podman, ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
        run(
          'build',
          '-q',
          '--isolation',
          'chroot',
          '--layers=false',
          '--format',
          'docker',
          '--build-arg',
          'WORD=given',
          '-t',
          'same:1',
          directory,
        );
        run('push', '-q', 'same:1', `oci:${at('theirs')}:x`);
        // Of what is mounted in its containers it leaves the places in the image.
        const left = /^\.\/(dev|proc|sys|run|etc|etc\/(hostname|hosts|resolv.conf)) /;
        const theirs = files(at('theirs'), 'x').filter((line) => !left.test(line));
        const ours = files(at('state/images'), 'docker.io/library/same:1');
        expect(ours.filter((line) => left.test(line))).toEqual([]);
        expect(ours).toEqual(theirs);
        expect(ours.length).toBeGreaterThan(20);
        const [theirConfig] = JSON.parse(run('inspect', 'same:1')) as [{ Config: Record<string, unknown> }];
        const { Labels, ...config } = theirConfig.Config;
        const { Labels: ourLabels, ...ourConfig } = inspect('same:1').Config;
        delete (Labels as Record<string, string>)['io.buildah.version'];
        expect(ourLabels).toEqual(Labels);
        for (const [name, value] of Object.entries(config)) expect([name, ourConfig[name]]).toEqual([name, value]);
      },
      120_000,
    );
  }

  const needs = lacking('busybox');

  it.skipIf(needs !== '')(
    `tells how it goes on, does nothing twice, and runs what it has built${needs}`,
    () => {
      const directory = context(
        'plain',
        `FROM scratch AS base
${TOOLS}
ONBUILD RUN busybox touch /triggered
RUN busybox echo one; busybox printf 'two\\033[31m'
FROM scratch AS unneeded
RUN false
FROM base
ARG FROM_ENV
RUN <<EOF
busybox echo "$FROM_ENV"
busybox touch /made
EOF
COPY <<text /etc/
value of $FROM_ENV
text
CMD ["/bin/sh", "-c", "busybox cat /etc/text; busybox ls /"]
`,
      );
      const first = build(['-t', 'plain:1', '-t', 'plain:2', '--build-arg', 'FROM_ENV', directory]);
      expect(first).toMatch(/^#1 \[base 1\/5\] FROM scratch AS base\n#1 DONE \d\.\ds\n\n#2 /);
      expect(first).toMatch(/^#5 \d\.\d{3} one\n#5 \d\.\d{3} two\^\[\[31m\n#5 DONE \d\.\ds\n$/m);
      expect(first).toMatch(/^#\d \d\.\d{3} environment$/m);
      expect(first).not.toContain('unneeded');
      const { Id: id } = inspect('plain:2');
      expect(first).toContain(`writing image ${id}\nnaming to plain:1\nnaming to plain:2\n`);
      const again = build(['-t', 'plain:1', '--build-arg', 'FROM_ENV', '--iidfile', at('id'), directory]);
      expect(again.match(/ CACHED$/gm)?.length).toBe(6);
      expect([inspect('plain:1').Id, readFileSync(at('id'), 'utf8')]).toEqual([id, id]);
      const { stdout } = iso(['build', '-q', '--no-cache', '--target', 'base', directory]);
      expect(stdout).toMatch(/^sha256:[0-9a-f]{64}\n$/);
      expect(iso(['run', 'plain:1']).stdout.split('\n')).toEqual(
        expect.arrayContaining(['value of environment', 'bin', 'made', 'triggered']),
      );
      const other = build(['-', '-t', 'other:1'], 'FROM plain:1\nLABEL x=y\n');
      expect(other).toContain('[1/2] FROM plain:1');
      expect(inspect('other:1').Config).toMatchObject({ Labels: { x: 'y' } });
    },
    60_000,
  );

  it.skipIf(needs !== '')(
    `says what is wrong, and where${needs}`,
    async () => {
      const directory = context('wrong', `FROM scratch\n${TOOLS}RUN busybox sh -c 'exit 3'\n`);
      const failed = iso(['build', directory]);
      expect(failed).toMatchObject({ status: 1, stdout: '' });
      expect(failed.stderr).toMatch(
        /^#4 ERROR \d\.\ds\niso: Dockerfile:4: RUN busybox sh -c 'exit 3': the command exited with code 3\n$/m,
      );
      const wrong = (text: string, ...args: string[]) => iso(['build', ...args, '-'], text).stderr;
      expect(wrong('FROM scratch\nCOPY a b')).toContain('iso: Dockerfile:2: COPY a b: the build has no context\n');
      expect(wrong('FROM scratch\nRNU x')).toBe('iso: Dockerfile:2: there is no instruction RNU, did you mean RUN?\n');
      writeFileSync(at('wrong/Dockerfile'), 'FROM scratch\nCOPY nothere /\n');
      expect(iso(['build', directory]).stderr).toContain(
        'iso: Dockerfile:2: COPY nothere /: nothere is not there; nothing outside of the context counts, nor what is ignored\n',
      );
      expect(wrong('FROM scratch\nLABEL a=b', '--build-arg', 'X=1')).toContain(
        'iso: warning: no ARG asks for --build-arg X\n',
      );
      expect(iso(['build', at('none')])).toMatchObject({ status: 1, stderr: `iso: ${at('none')} is no directory\n` });
      expect(iso(['build', '-t', 'UPPER', directory]).status).toBe(1);
      // What it was doing when it is interrupted goes.
      writeFileSync(at('wrong/Dockerfile'), `FROM scratch\n${TOOLS}RUN busybox echo up; busybox sleep 60\n`);
      const child = spawn(process.execPath, [...command, 'build', directory], { env });
      let said = '';
      let told = false;
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        said += text;
        if (!told && said.includes(' up\n')) told = child.kill('SIGINT');
      });
      const [code] = await once(child, 'exit');
      expect([code, said.trim().split('\n').at(-1)]).toEqual([1, 'iso: given up: SIGINT']);
      const snapshots = readdirSync(at('state/snapshots'), { recursive: true, encoding: 'utf8' });
      expect(snapshots.filter((name) => name.includes('build-'))).toEqual([]);
      expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(folder);
      expect(existsSync(at('state/build'))).toBe(true);
    },
    60_000,
  );
});
