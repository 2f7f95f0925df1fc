import { callText } from '../kernel.js';
import { AT, CLONE } from '../raw/flags.js';
import type { Compiled } from './compile.js';
import { Label, Output, Slot, type Step, StringArray } from './step.js';

/** A program as text, one call a line, in the order in which the child makes them. */
export function explain({ steps, clone }: Compiled): string {
  const lines = steps.map(
    (step, i) => `${String(i + 1).padStart(3)}  ${step.phase.padEnd(11)} ${stepText(step, steps)}${notes(step, steps)}`,
  );
  return [`     clone       ${clone()}`, ...lines, ''].join('\n');
}

/** A step as strace would print it. */
export function stepText(step: Step, steps: readonly Step[]): string {
  const { text } = step.options;
  if (text) return typeof text === 'function' ? text() : text;
  const args = step.args.map((arg) => {
    if (arg instanceof Slot) return { number: `<${steps.findIndex((other) => other.slot === arg) + 1}>` };
    if (arg instanceof Output) return { number: `<${arg.size} bytes>` };
    if (arg instanceof StringArray) {
      const shown = arg.strings.slice(0, 6).map((text) => JSON.stringify(text));
      return { number: `[${shown.join(', ')}${arg.strings.length > 6 ? `, ... ${arg.strings.length}` : ''}]` };
    }
    return arg === AT.FDCWD ? { number: 'AT_FDCWD' } : arg;
  });
  return callText(step.syscall, args);
}

function notes(step: Step, steps: readonly Step[]): string {
  const { ignore, onIgnored, next } = step;
  const to = onIgnored instanceof Label ? onIgnored.row : onIgnored;
  const on = next && next !== steps[steps.indexOf(step) + 1] ? `to ${steps.indexOf(next) + 1}` : '';
  const notes = [
    ...(ignore?.length ? [`${ignore.join(' ')}: ${to ? `to ${steps.indexOf(to) + 1}` : on || 'go on'}`] : []),
    ...(on ? [`then ${on}`] : []),
  ];
  return notes.length ? `   # ${notes.join('; ')}` : '';
}

const flagNames = Object.entries(CLONE).map(([name, value]) => [name, value] as const);

/** `CLONE_*` flags by name. */
export function flagText(flags: number): string {
  const names = flagNames.filter(([, value]) => Math.floor(flags / value) % 2 === 1).map(([name]) => `CLONE_${name}`);
  return names.join('|') || '0';
}
