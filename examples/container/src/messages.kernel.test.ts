// What is said of the mistakes that everybody makes: what was meant by whom, and what can be done.
import { spawnSync } from 'node:child_process';
import { chownSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { command } from './testing/command.js';
import { lacking } from './testing/lacking.js';

const needs = lacking('unshare', 'setpriv');
const folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function said(args: readonly string[], before: readonly string[] = [], state = 'state'): string {
  const [file, ...more] = [...before, process.execPath, ...command, ...args] as [string, ...string[]];
  const { status, stdout, stderr } = spawnSync(file, more, {
    encoding: 'utf8',
    env: { ...process.env, ISO_ROOT: join(folder, state) },
  });
  expect([status, stdout]).toEqual([125, '']);
  return stderr;
}

describe.skipIf(needs)(`what is said${needs}`, () => {
  it('of an image that is nowhere: which one, where it was looked for, and how there is one', () => {
    // Without a network no registry is asked.
    expect(said(['run', '--rm', 'nosuch'], ['unshare', '-n'])).toMatch(
      /^iso: there is no image nosuch here, and it cannot be fetched as docker\.io\/library\/nosuch:latest: .*; iso images shows .*iso import and iso load make some\n$/,
    );
  });

  it('of a name with a space, and of a directory that is not there', () => {
    expect(said(['run', '--rm', '--name', 'a b', '/', 'true'])).toMatch(/^iso: not a name: "a b"/);
    expect(said(['run', '--rm', '-w', '/nosuch', '/', 'true'])).toBe(
      'iso: the working directory /nosuch is not there in the container\n',
    );
    expect(said(['run', '--rm', '-w', '/etc/passwd', '/', 'true'])).toBe(
      'iso: the working directory /etc/passwd is no directory in the container\n',
    );
  });

  it('of an option and a command that are mistyped', () => {
    expect(said(['run', '--interactiv', '/', 'true'])).toMatch(
      /^iso: unknown option '--interactiv' \(Did you mean --interactive\?\)\n$/,
    );
    expect(said(['rnu', '/', 'true'])).toMatch(/^iso: unknown command 'rnu' \(Did you mean run\?\)\n$/);
  });

  it('of images to a user who has no storage driver', () => {
    mkdirSync(join(folder, 'plain'));
    for (const path of ['', 'plain']) chownSync(join(folder, path), 65534, 65534);
    const user = ['unshare', '-n', 'setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'];
    expect(said(['run', '--rm', 'nosuch'], user, 'plain')).toBe(
      'iso: images need a storage driver, and none works here for a user who is not root; iso doctor says why of each\n',
    );
  });
});
