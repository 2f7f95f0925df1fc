import type { BuildScope, BuildStep, StepSource } from '@iso/unionfs';
import { describe, expect, it } from 'vitest';
import { type DockerfileOptions, readDockerfile } from './dockerfile.js';

const read = (text: string, options: Partial<DockerfileOptions> = {}) =>
  readDockerfile(text, { file: 'Dockerfile', ...options });

/** The steps of the last stage as they are done one after the other, where nothing but variables is known. */
function steps(text: string, options: Partial<DockerfileOptions> = {}): object[] {
  const config: Record<string, string> = {};
  const args: Record<string, string> = {};
  const done: object[] = [];
  const take = (source: StepSource) => {
    if (typeof source !== 'function') {
      const { origin: _, ...step } = source as BuildStep & { env?: object; arg?: Record<string, string> };
      Object.assign(config, step.env);
      Object.assign(args, step.arg);
      return void done.push(step);
    }
    const made = source({ config: {}, env: { ...args, ...config } } as BuildScope);
    for (const each of Array.isArray(made) ? made : [made]) take(each);
  };
  for (const source of read(text, options).stages.at(-1)?.steps ?? []) take(source);
  return done;
}

// What is expected here is docker's reference of the Dockerfile.
describe('a Dockerfile', () => {
  it('has stages, their names, and variables before them', () => {
    const { stages, unused } = read(
      'ARG V=1\nARG NAME=base:$V\nfrom --platform=$P $NAME as One\nFROM scratch\nFROM ${NONE:-one}\n',
      { platformArgs: { P: 'linux/arm64' }, buildArgs: { V: '2', other: 'x', HTTP_PROXY: 'y' } },
    );
    expect(stages.map(({ from, name, platform }) => [from, name, platform])).toEqual([
      ['base:2', 'One', 'linux/arm64'],
      ['scratch', undefined, undefined],
      ['one', undefined, undefined],
    ]);
    expect(stages[0]?.origin).toEqual({
      file: 'Dockerfile',
      line: 3,
      text: 'FROM --platform=$P $NAME as One'.replace('--platform=$P ', ''),
    });
    expect(unused).toEqual(['other']);
  });

  it('joins lines, without comments and empty ones', () => {
    expect(steps('FROM scratch\nRUN a \\\n  # comment\n\n   && b  "c  d" \\  \n  e\nCMD ["x", \\\n "y z"]')).toEqual([
      { run: 'a    && b  "c  d"   e' },
      { cmd: ['x', 'y z'] },
    ]);
    expect(steps('# escape=`\nFROM scratch\nCOPY a `\n c:\\\nRUN x\\')).toEqual([
      { copy: ['a'], to: 'c:\\' },
      { run: 'x\\' },
    ]);
  });

  it('substitutes what docker does, and nothing else', () => {
    const text = `FROM scratch
ARG A=1 B
ENV X=$A Y="$A $X" Z='$A'
ENV X=new Y=$X
ENV OLD  some $X  value
COPY --chown=$X:$A --chmod=0$A\\44 \${X}* "$Y" /$Z/
WORKDIR /w/$X
USER $X
EXPOSE $P 80
VOLUME ["/$X", "$Y"]
LABEL a.$X="$Y" 'b c'=d
STOPSIGNAL SIG$S
RUN echo $X
CMD echo $X
ENTRYPOINT ["$X"]
`.replace('--chmod=0$A\\44', '--chmod=0${A}44');
    expect(steps(text, { buildArgs: { B: 'b' } })).toEqual([
      { arg: { A: '1', B: 'b' } },
      { env: { X: '1', Y: '1 ', Z: '$A' } },
      { env: { X: 'new', Y: '1' } },
      { env: { OLD: 'some new  value' } },
      { copy: ['new*', '1'], to: '/$A/', chown: 'new:1', chmod: 0o144 },
      { workdir: '/w/new' },
      { user: 'new' },
      { expose: ['80'] },
      { volumes: ['/new', '1'] },
      { labels: { 'a.new': '1', 'b c': 'd' } },
      { stopSignal: 'SIG' },
      { run: 'echo $X' },
      { cmd: 'echo $X' },
      { entrypoint: ['$X'] },
    ]);
  });

  it('has flags that add up, and flags that are there or not', () => {
    const text = `FROM scratch
ARG E=md
COPY --parents --exclude=*.$E --exclude=!a.md --link x y /to/
COPY --parents=false x /to
ADD --exclude=*.txt d /to/
ADD --checksum=sha256:$E https://example.org/$E#x /to/`;
    expect(steps(text).slice(1)).toEqual([
      { copy: ['x', 'y'], to: '/to/', exclude: ['*.md', '!a.md'], parents: true },
      { copy: ['x'], to: '/to' },
      { add: ['d'], to: '/to/', exclude: ['*.txt'] },
      { add: ['https://example.org/md#x'], to: '/to/', checksum: 'sha256:md' },
    ]);
    expect(() => steps('FROM scratch\nCOPY --from=a --from=b x y')).toThrow('--from is given twice');
    expect(() => steps('FROM scratch\nCOPY --parents=maybe x y')).toThrow('neither true nor false');
  });

  it('has arguments from the command line, the stage, or before it', () => {
    const text = 'ARG A=global\nARG G=g\nFROM scratch\nARG A\nARG G=own\nARG C=default\nARG D\nARG TARGETARCH';
    const options = { buildArgs: { C: 'given' }, platformArgs: { TARGETARCH: 'arm64' } };
    expect(Object.assign({}, ...steps(text, options).map((step) => (step as { arg: object }).arg))).toEqual({
      A: 'global',
      G: 'own',
      C: 'given',
      D: undefined,
      TARGETARCH: 'arm64',
    });
  });

  it('takes texts from below', () => {
    const text = `FROM scratch
ENV A=a
RUN <<EOF
echo one
echo $A
EOF
RUN cat <<-'E1' <<E2 | sh
	x
	E1
y
E2
COPY <<f "<<-"g"" /d/
$A "q"
f
`;
    expect(steps(text.replace('"<<-"g""', '<<-"g"').replace('f\n', 'f\n').concat('\traw $A\n\tg\n'))).toEqual([
      { env: { A: 'a' } },
      { run: 'echo one\necho $A\n' },
      { run: "cat <<-'E1' <<E2 | sh\nx\nE1\ny\nE2" },
      {
        copy: [
          { name: 'f', content: 'a "q"\n' },
          { name: 'g', content: 'raw $A\n' },
        ],
        to: '/d/',
      },
    ]);
  });

  it('has the rest of the instructions', () => {
    expect(
      steps(`FROM scratch
COPY --from=x --link ["a b", "/c d/"]
ADD a b c/
SHELL ["/bin/bash", "-c"]
RUN --network=host ["a", "b"]
RUN [ "$a" = b ]
HEALTHCHECK --interval=1m30s --retries=3 CMD curl x || exit 1
HEALTHCHECK none
ONBUILD RUN x
MAINTAINER me <m@e>
CMD []`),
    ).toEqual([
      { copy: ['a b'], to: '/c d/', from: 'x' },
      { add: ['a', 'b'], to: 'c/' },
      { shell: ['/bin/bash', '-c'] },
      { run: ['a', 'b'], network: 'host' },
      { run: '[ "$a" = b ]' },
      { healthcheck: { test: 'curl x || exit 1', interval: 90_000, retries: 3 } },
      { healthcheck: { test: 'none' } },
      { onBuild: ['RUN x'] },
      { author: 'me <m@e>' },
      { cmd: [] },
    ]);
  });

  it.each([
    ['RUN x', 'Dockerfile:1: nothing but ARG can be before FROM'],
    ['', 'Dockerfile:1: there is no FROM'],
    ['FROM a b', 'Dockerfile:1: FROM: not IMAGE [AS NAME]'],
    ['FROM $X', 'Dockerfile:1: FROM: $X has no value'],
    ['FROM a\n\nRNU x', 'Dockerfile:3: there is no instruction RNU, did you mean RUN?'],
    ['FORM a', 'Dockerfile:1: there is no instruction FORM, did you mean FROM?'],
    ['FROM a\nENTRYPOIN x', 'Dockerfile:2: there is no instruction ENTRYPOIN, did you mean ENTRYPOINT?'],
    ['FROM a\nNOTHING x', 'Dockerfile:2: there is no instruction NOTHING'],
    ['FROM a\nRUN --mount=type=cache,target=/x y', 'Dockerfile:2: RUN: there is no option --mount'],
    ['FROM a\nCOPY x', 'Dockerfile:2: COPY: it takes sources'],
    ['FROM a\nENV x', 'Dockerfile:2: ENV: it takes a name and a value'],
    ['FROM a\nENV x=1 y', 'Dockerfile:2: ENV: no NAME=VALUE: "y"'],
    ['FROM a\nSHELL sh', 'Dockerfile:2: SHELL: it takes a list'],
    ['FROM a\nRUN <<EOF\nx', 'Dockerfile:2: the text <<EOF does not end'],
    ['FROM a\nONBUILD FROM x', 'Dockerfile:2: ONBUILD: FROM cannot be done later'],
    ['FROM a\nHEALTHCHECK --interval=5 CMD x', 'Dockerfile:2: HEALTHCHECK: not a duration: 5'],
    ['FROM a\nARG 1=2', 'Dockerfile:2: ARG: not a name of a variable: "1"'],
    ['FROM a\nWORKDIR', 'Dockerfile:2: WORKDIR: it says nothing'],
    ['FROM a\nCOPY --chmod=rwx a b', 'Dockerfile:2: COPY: not a mode in octal digits: "rwx"'],
    ['FROM a\nENV a="b', "Dockerfile:2: ENV: a '\"' is missing"],
  ])('%j is refused', (text, message) => {
    expect(() => steps(text)).toThrow(message);
  });
});
