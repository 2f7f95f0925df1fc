import type { BuildScope, BuildStage, BuildStep, StepSource } from '@iso/unionfs';
import { DockerfileError, type Instruction, parseInstructions } from './instruction.js';
import { readStep, unknownInstruction } from './step.js';
import { substitute, type Variables } from './words.js';

/** What is given beside the Dockerfile. */
export interface DockerfileOptions {
  /** Its name, for messages. */
  file: string;
  /** Docker's --build-arg. */
  buildArgs?: Readonly<Record<string, string>>;
  /** Values of variables such as TARGETARCH, for those who declare them. */
  platformArgs?: Readonly<Record<string, string>>;
}

/** A Dockerfile as steps of a build. */
export interface Dockerfile {
  stages: BuildStage[];
  /** Names of --build-arg that no ARG asks for. */
  unused: string[];
}

/** Docker takes these without an ARG. */
const PROXIES = /^(https?|ftp|no|all)_proxy$/i;

/**
 * Reads a Dockerfile.
 *
 * @param text - of the file
 * @param options - its name, arguments of the build
 * @returns its stages
 * @throws DockerfileError with file and line
 */
export function readDockerfile(text: string, options: DockerfileOptions): Dockerfile {
  const { file, buildArgs = {}, platformArgs = {} } = options;
  const instructions = parseInstructions(text, file);
  const given = new Map(Object.entries(buildArgs));
  const asked = new Set<string>();
  const globals: Record<string, string> = {};
  const scope: ArgScope = {
    valueOf: (name, fallback) => {
      asked.add(name);
      return given.get(name) ?? fallback ?? (Object.hasOwn(globals, name) ? globals[name] : platformArgs[name]);
    },
  };
  const stages: { stage: BuildStage; steps: StepSource[] }[] = [];
  for (const instruction of instructions) {
    const place = { file, line: instruction.line };
    const within = <T>(work: () => T): T => {
      try {
        return work();
      } catch (error) {
        if (error instanceof DockerfileError) throw error;
        throw new DockerfileError(file, instruction.line, `${instruction.keyword}: ${(error as Error).message}`);
      }
    };
    if (instruction.keyword === 'FROM') {
      const steps: StepSource[] = [];
      const known = { ...platformArgs, ...globals };
      stages.push({ stage: within(() => stageOf(instruction, known, steps, place)), steps });
    } else if (stages.length === 0) {
      if (instruction.keyword !== 'ARG')
        throw new DockerfileError(
          file,
          instruction.line,
          unknownInstruction(instruction.keyword) ?? 'nothing but ARG can be before FROM',
        );
      within(() => Object.assign(globals, globalArgs(instruction, globals, scope)));
    } else stages.at(-1)?.steps.push(within(() => readStep(instruction, file, scope)));
  }
  if (stages.length === 0) throw new DockerfileError(file, 1, 'there is no FROM');
  const unused = [...given.keys()].filter((name) => !asked.has(name) && !PROXIES.test(name));
  for (const { steps } of stages) {
    const [first] = steps;
    // Before all others, and not one of them.
    const begin: StepSource = (now) => [...triggers(now, options, scope), ...(first ? [first] : [])];
    steps.splice(0, 1, begin);
  }
  return { stages: stages.map(({ stage }) => stage), unused };
}

/** Where ARG finds values. */
export interface ArgScope {
  /** Of the command line, else its own, else that before the first FROM. */
  valueOf(name: string, fallback: string | undefined): string | undefined;
}

function stageOf(
  { rest, flags, escaper }: Instruction,
  variables: Variables,
  steps: StepSource[],
  place: { file: string; line: number },
): BuildStage {
  const mean = (word: string) => substitute(word, variables, { escaper });
  const [, image = '', name] = /^(\S+)(?:\s+AS\s+(\S+))?$/i.exec(rest) ?? [];
  if (image === '') throw new Error(`not IMAGE [AS NAME]: ${rest}`);
  for (const flag of flags.keys()) if (flag !== 'platform') throw new Error(`there is no option --${flag}`);
  if (name !== undefined && !/^[a-z][a-z0-9._-]*$/i.test(name)) throw new Error(`not a name of a stage: ${name}`);
  const from = mean(image);
  if (from === '') throw new Error(`${image} has no value`);
  const platform = mean(flags.get('platform')?.[0] ?? '');
  return {
    from,
    steps,
    ...(name === undefined ? {} : { name }),
    ...(platform ? { platform } : {}),
    origin: { ...place, text: `FROM ${rest}` },
  };
}

function globalArgs({ rest, escaper }: Instruction, globals: Variables, scope: ArgScope): Record<string, string> {
  const found: Record<string, string> = {};
  for (const word of rest.split(/\s+/)) {
    const [name = '', value] = word.split(/=(.*)/s);
    if (!/^[a-zA-Z_][a-zA-Z0-9_]*$/.test(name)) throw new Error(`not a name of a variable: ${JSON.stringify(name)}`);
    const mean = value === undefined ? undefined : substitute(value, { ...globals, ...found }, { escaper });
    const is = scope.valueOf(name, mean);
    if (is !== undefined) found[name] = is;
  }
  return found;
}

/** What the image below wants to be done in those that are built on it. */
function triggers({ config }: BuildScope, options: DockerfileOptions, scope: ArgScope): StepSource[] {
  const { OnBuild: lines = [] } = config;
  if (lines.length === 0) return [];
  const file = `${options.file} (ONBUILD of the image below)`;
  const forget: BuildStep = { onBuild: [], origin: { text: 'ONBUILD of the image below' } };
  return [forget, ...lines.flatMap((line) => parseInstructions(line, file).map((each) => readStep(each, file, scope)))];
}
