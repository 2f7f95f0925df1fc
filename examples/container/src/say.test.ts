import { Writable } from 'node:stream';
import { expect, it, vi } from 'vitest';
import { listing } from './inspect/listing.js';
import { complain, say } from './say.js';
import { table } from './table.js';

/** Clears the screen, in both of its forms; turns text around; a title. */
const hostile = '\x1b[2J\x9b2J\u202ename\x7f\x1b]0;title\x07';
const seen = '\\u001b[2J\\u009b2J\\u202ename\\u007f\\u001b]0;title\\u0007';

function said(text: string, isTTY: boolean): string {
  let all = '';
  const stream = new Writable({
    write(chunk, _encoding, done) {
      all += chunk;
      done();
    },
  });
  say(Object.assign(stream, { isTTY }) as unknown as NodeJS.WriteStream, text);
  return all;
}

it('shows a terminal the escapes of others, and hides nothing from programs', () => {
  expect(said(`a\tb ${hostile}\n`, true)).toBe(`a\tb ${seen}\n`);
  expect(said(`a\tb ${hostile}\n`, false)).toBe(`a\tb ${hostile}\n`);
});

it('leaves JSON what it means', () => {
  expect(JSON.parse(said(JSON.stringify({ hostile }), true))).toEqual({ hostile });
});

it('makes each cell of a table one that stays in its column', () => {
  expect(
    table([
      ['NAME', 'X'],
      [`${hostile}\r\n\tend`, 'x'],
    ])[1],
  ).toBe(`${seen}\\u000d\\u000a\\u0009end   x`);
  const rows = [{ Name: 'one\ntwo\t\x1b[1m' }];
  expect(listing(rows, 'table {{.Name}}', [['NAME', 'Name']])).toEqual(['NAME', 'one\\u000atwo\\u0009\\u001b[1m']);
});

it('complains in one line', () => {
  const written = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  complain(`no ${hostile}\nsuch`);
  expect(written.mock.calls).toEqual([[`iso: no ${seen} such\n`]]);
  written.mockRestore();
});
