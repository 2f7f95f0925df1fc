import { expect, it } from 'vitest';
import { signalName, signalNumber } from './signal.js';

it('has a number for every name that it gives', () => {
  for (let number = 1; number <= 64; number++)
    expect(signalNumber(signalName(number)), signalName(number)).toBe(number);
  for (const name of ['SIGNONE', 'SIGRTMIN+31', 'SIGRTMIN+', 'SIGRTMIN+1x'])
    expect(() => signalNumber(name as NodeJS.Signals), name).toThrow(/unknown signal/);
});
