import { expect, it } from 'vitest';
import { type BuildStep, checkStep, stepText } from './step.js';

it('is told in one line, modes as everybody writes them', () => {
  expect(stepText({ copy: ['a', 'b'], to: '/x/', chmod: 0o644 })).toBe('copy ["a","b"] to /x/ chmod 0644');
  expect(stepText({ copy: ['a'], to: '/x', chmod: 0o4755 })).toMatch(/ chmod 04755$/);
  expect(stepText({ copy: [{ name: 'f', content: Buffer.from('abc') }], to: '/x' })).toBe(
    'copy [{"name":"f","content":"3 bytes"}] to /x',
  );
});

it('has one key that says what it does, and is told which it has else', () => {
  const refused = (step: object) => {
    try {
      return checkStep(step as BuildStep);
    } catch (error) {
      return String(error);
    }
  };
  expect(refused({ run: 'true', network: 'none' })).toBe('run');
  expect(refused({ copyy: ['a'], to: '/' })).toMatch(/it has "copyy" and "to", and must have one of run, copy, add,/);
  expect(refused({ run: 'x', user: 'y' })).toMatch(/it has "run" and "user", and must have one of/);
  expect(refused({})).toMatch(/it has nothing, and must have one of/);
});
