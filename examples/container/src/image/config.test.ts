import { describe, expect, it } from 'vitest';
import { withConfig } from './config.js';

const config = {
  Entrypoint: ['/entry'],
  Cmd: ['a'],
  Env: ['A=1', 'HOME', 'B=image'],
  User: 'somebody',
  WorkingDir: '/work',
};

describe('the config of an image', () => {
  it('says what the options leave open', () => {
    expect(withConfig({ root: '/', env: ['B=mine'] }, config)).toEqual({
      root: '/',
      command: ['/entry', 'a'],
      env: ['A=1', 'B=image', 'B=mine'],
      user: 'somebody',
      cwd: '/work',
    });
    expect(withConfig({ root: '/', command: ['b'], user: '0', cwd: '/' }, config)).toMatchObject({
      command: ['/entry', 'b'],
      user: '0',
      cwd: '/',
    });
  });

  it('loses its command with its entrypoint, as docker has it', () => {
    expect(withConfig({ root: '/' }, config, '/other').command).toEqual(['/other']);
    expect(withConfig({ root: '/', command: ['b'] }, config, '').command).toEqual(['b']);
    expect(() => withConfig({ root: '/' }, config, '')).toThrow('no command');
    expect(() => withConfig({ root: '/' }, {})).toThrow('no command');
  });
});
