import type { BuildScope, BuildStep, InlineFile, StepOrigin, StepSource } from '@iso/unionfs';
import { parseDuration } from '../duration.js';
import type { ArgScope } from './dockerfile.js';
import { DockerfileError, type Instruction } from './instruction.js';
import { nearest } from './nearest.js';
import { splitWords, substitute, type Variables } from './words.js';

/** Reads one instruction in a stage, but for what depends on variables: that is done when it is its turn. */
export function readStep(instruction: Instruction, file: string, args: ArgScope): StepSource {
  const { keyword, flags, line, rest, heredocs } = instruction;
  const fail = (error: unknown) => new DockerfileError(file, line, `${keyword}: ${(error as Error).message}`);
  const read = Object.hasOwn(READERS, keyword) ? READERS[keyword] : undefined;
  if (!read) throw new DockerfileError(file, line, unknown(keyword));
  const { options = [], make } = read;
  for (const flag of flags.keys()) {
    if (!options.includes(flag))
      throw new DockerfileError(file, line, `${keyword}: there is no option --${flag}, or not yet`);
  }
  if (rest === '' && keyword !== 'CMD' && keyword !== 'ENTRYPOINT') throw fail(new Error('it says nothing'));
  if (heredocs.length && !HEREDOCS.includes(keyword)) throw fail(new Error('it takes no text from below'));
  const written = [...flags]
    .flatMap(([name, values]) => values.map((value) => `--${name}${value === 'true' ? '' : `=${value}`} `))
    .join('');
  const origin: StepOrigin = { file, line, text: `${keyword} ${written}${rest}`.trim() };
  const within = <T>(work: () => T): T => {
    try {
      return work();
    } catch (error) {
      throw error instanceof DockerfileError ? error : fail(error);
    }
  };
  const done = within(() => make(instruction, args));
  if (typeof done !== 'function') return { ...done, origin };
  return (scope) => ({ ...within(() => done(scope)), origin });
}

/** What is wrong with a word in an instruction's place; undefined where it is one. */
export function unknownInstruction(keyword: string): string | undefined {
  return keyword === 'FROM' || Object.hasOwn(READERS, keyword) ? undefined : unknown(keyword);
}

function unknown(keyword: string): string {
  const near = nearest(keyword, ['FROM', ...Object.keys(READERS)]);
  return `there is no instruction ${keyword}${near === undefined ? '' : `, did you mean ${near}?`}`;
}

const HEREDOCS = ['RUN', 'COPY', 'ADD'];

type Made = BuildStep | ((scope: BuildScope) => BuildStep);

interface Reader {
  options?: readonly string[];
  make(instruction: Instruction, args: ArgScope): Made;
}

const READERS: Readonly<Record<string, Reader>> = {
  RUN: { options: ['network'], make: run },
  COPY: { options: ['from', 'chown', 'chmod', 'link', 'parents', 'exclude'], make: (each) => transfer(each, 'copy') },
  ADD: { options: ['chown', 'chmod', 'link', 'exclude', 'checksum'], make: (each) => transfer(each, 'add') },
  ENV: { make: (each) => pairs(each, (env) => ({ env })) },
  LABEL: { make: (each) => pairs(each, (labels) => ({ labels })) },
  ARG: { make: arg },
  WORKDIR: { make: (each) => word(each, (workdir) => ({ workdir })) },
  USER: { make: (each) => word(each, (user) => ({ user })) },
  STOPSIGNAL: { make: (each) => word(each, (stopSignal) => ({ stopSignal })) },
  MAINTAINER: { make: ({ rest }) => ({ author: rest }) },
  CMD: { make: ({ rest }) => ({ cmd: json(rest) ?? rest }) },
  ENTRYPOINT: { make: ({ rest }) => ({ entrypoint: json(rest) ?? rest }) },
  SHELL: {
    make({ rest }) {
      const shell = json(rest);
      if (!shell?.length) throw new Error('it takes a list: ["program", "argument"]');
      return { shell };
    },
  },
  EXPOSE: {
    make: ({ rest, escaper }) => {
      return ({ env }) => ({
        expose: rest.split(/\s+/).flatMap((port) => substitute(port, env, { escaper }).match(/\S+/g) ?? []),
      });
    },
  },
  VOLUME: {
    make: ({ rest, escaper }) => {
      return ({ env }) => ({
        volumes: (json(rest) ?? rest.split(/\s+/)).map((path) => substitute(path, env, { escaper })),
      });
    },
  },
  HEALTHCHECK: { options: ['interval', 'timeout', 'start-period', 'start-interval', 'retries'], make: healthcheck },
  ONBUILD: {
    make({ rest }) {
      const [, keyword = ''] = /^(\S+)\s/.exec(rest) ?? [];
      if (!Object.hasOwn(READERS, keyword.toUpperCase()) || /^(ONBUILD|FROM|MAINTAINER)$/i.test(keyword)) {
        throw new Error(`${keyword || rest} cannot be done later`);
      }
      return ({ config }) => ({ onBuild: [...(config.OnBuild ?? []), rest] });
    },
  },
};

/** A list of texts in brackets; undefined where it is a line. */
function json(text: string): string[] | undefined {
  if (!text.startsWith('[')) return undefined;
  try {
    const list: unknown = JSON.parse(text);
    return Array.isArray(list) && list.every((item) => typeof item === 'string') ? (list as string[]) : undefined;
  } catch {
    return undefined;
  }
}

function run({ rest, flags, heredocs }: Instruction): BuildStep {
  const [only] = heredocs;
  const alone = heredocs.length === 1 && /^<<-?(["']?)[^\s"']+\1$/.test(rest);
  const [network] = flags.get('network') ?? [];
  const more = network === undefined || network === 'default' ? {} : { network };
  if (alone && only) {
    if (only.content.startsWith('#!')) throw new Error('a text with "#!" is not run: give its program before the <<');
    return { run: only.content || ':', ...more };
  }
  const below = heredocs.map(({ name, content }) => `\n${content}${name}`).join('');
  return { run: json(rest) ?? `${rest}${below}`, ...more };
}

function transfer({ rest, flags, heredocs, escaper }: Instruction, kind: 'copy' | 'add'): Made {
  const words = json(rest) ?? rest.split(/\s+/);
  if (words.length < 2) throw new Error('it takes sources and where they go');
  return ({ env }) => {
    const mean = (text: string) => substitute(text, env, { escaper });
    const sources = words.slice(0, -1).map((text): string | InlineFile => {
      const name = /^<<-?(["']?)([^\s"']+)\1$/.exec(text)?.[2];
      const heredoc = name === undefined ? undefined : heredocs.find((each) => each.name === name);
      if (!heredoc) return mean(text);
      const { content, expand } = heredoc;
      return { name: heredoc.name, content: expand ? substitute(content, env, { escaper, quotes: false }) : content };
    });
    const [from, chown, chmod] = ['from', 'chown', 'chmod'].map((flag) => flags.get(flag)?.[0]);
    const exclude = flags.get('exclude')?.map(mean);
    const place = {
      to: mean(words.at(-1) as string),
      ...(chown === undefined ? {} : { chown: mean(chown) }),
      ...(chmod === undefined ? {} : { chmod: mode(mean(chmod)) }),
      ...(exclude ? { exclude } : {}),
    };
    const checksum = flags.get('checksum')?.[0];
    if (kind === 'add')
      return { add: sources, ...place, ...(checksum === undefined ? {} : { checksum: mean(checksum) }) };
    const parents = isOn(flags.get('parents')?.[0]);
    return { copy: sources, ...place, ...(from === undefined ? {} : { from }), ...(parents ? { parents } : {}) };
  };
}

/** A flag that is there, or says so. */
function isOn(value: string | undefined): boolean {
  if (value !== undefined && !/^(true|false)$/.test(value)) throw new Error(`neither true nor false: ${value}`);
  return value === 'true';
}

function mode(text: string): number {
  if (!/^[0-7]{3,4}$/.test(text)) throw new Error(`not a mode in octal digits: ${JSON.stringify(text)}`);
  return Number.parseInt(text, 8);
}

/** `NAME=VALUE …`, or one as `NAME VALUE`. */
function pairs({ rest, escaper }: Instruction, step: (all: Record<string, string>) => BuildStep): Made {
  const words = splitWords(rest, escaper);
  const [first = ''] = words;
  let list: [name: string, value: string][];
  if (first.includes('=')) {
    list = words.map((text) => {
      const [, name = '', value] = /^([^=]*)=(.*)$/s.exec(text) ?? [];
      if (value === undefined) throw new Error(`no NAME=VALUE: ${JSON.stringify(text)}`);
      return [name, value];
    });
  } else {
    const [, name = '', value] = /^(\S+)\s+(.*)$/s.exec(rest) ?? [];
    if (value === undefined) throw new Error('it takes a name and a value');
    list = [[name, value]];
  }
  return ({ env }) => {
    const mean = (text: string) => substitute(text, env, { escaper });
    const all = list.map(([name, value]) => [mean(name), mean(value)] as const);
    if (all.some(([name]) => name === '')) throw new Error('a name is empty');
    return step(Object.fromEntries(all));
  };
}

function arg({ rest, escaper }: Instruction, args: ArgScope): Made {
  const words = splitWords(rest, escaper).map((text) => {
    const [name = '', value] = text.split(/=(.*)/s);
    if (!/^[a-zA-Z_][a-zA-Z0-9_]*$/.test(name)) throw new Error(`not a name of a variable: ${JSON.stringify(name)}`);
    args.valueOf(name, undefined);
    return { name, value };
  });
  return ({ env }) => {
    const all = words.map(({ name, value }) => {
      return [name, args.valueOf(name, value === undefined ? undefined : substitute(value, env, { escaper }))] as const;
    });
    return { arg: Object.fromEntries(all) };
  };
}

function word({ rest, escaper }: Instruction, step: (text: string) => BuildStep): Made {
  return ({ env }: { env: Variables }) => {
    const text = substitute(rest, env, { escaper });
    if (text === '') throw new Error(`${rest} has no value`);
    return step(text);
  };
}

function healthcheck({ rest, flags }: Instruction): BuildStep {
  if (/^none$/i.test(rest)) return { healthcheck: { test: 'none' } };
  const [, command] = /^CMD\s+(.*)$/is.exec(rest) ?? [];
  if (command === undefined) throw new Error('it takes CMD and a command, or NONE');
  const names = {
    interval: 'interval',
    timeout: 'timeout',
    'start-period': 'startPeriod',
    'start-interval': 'startInterval',
  };
  const times = Object.entries(names).flatMap(([flag, name]) => {
    const [value] = flags.get(flag) ?? [];
    return value === undefined ? [] : [[name, duration(value)]];
  });
  const [retries] = flags.get('retries') ?? [];
  if (retries !== undefined && !/^\d{1,9}$/.test(retries)) throw new Error(`not a number: ${retries}`);
  return {
    healthcheck: {
      test: json(command) ?? command,
      ...Object.fromEntries(times),
      ...(retries === undefined ? {} : { retries: Number(retries) }),
    },
  };
}

function duration(text: string): number {
  const ms = parseDuration(text);
  if (ms === undefined) throw new Error(`not a duration: ${text}`);
  return ms;
}
