import { describe, expect, it } from 'vitest';
import { ignorePatterns, namePattern } from './pattern.js';

// Expected by Go's documentation of path/filepath.Match and docker's of .dockerignore; no result comes from the code.
describe('a pattern of names', () => {
  it.each([
    ['*', 'anything', true],
    ['*', 'a/b', false],
    ['a?c', 'aäc', true],
    ['a?c', 'ac', false],
    ['[a-c]x', 'bx', true],
    ['[^a-c]x', 'bx', false],
    ['[^a]', '/', false],
    ['a\\*', 'a*', true],
    ['a\\*', 'ab', false],
    ['[\\]]', ']', true],
    ['a.b', 'axb', false],
    ['$^|(){}+', '$^|(){}+', true],
    ['[[]', '[', true],
  ])('%s and %s: %s', (pattern, name, matches) => {
    expect(namePattern(pattern).test(name)).toBe(matches);
  });

  it.each(['[', '[]', 'a[', 'a\\', '[b-a]'])('%s is none', (pattern) => {
    expect(() => namePattern(pattern)).toThrow(TypeError);
  });
});

describe('a pattern of many stars', () => {
  it('ends on names that it nearly matches', () => {
    const name = 'a'.repeat(250);
    const begun = performance.now();
    expect(namePattern(`${'*a'.repeat(100)}*b`).test(name)).toBe(false);
    expect(namePattern(`${'*a'.repeat(100)}*`).test(name)).toBe(true);
    const path = Array(2000).fill('a').join('/');
    const lines = [`${'*a'.repeat(30)}*b`, `${'**/a/'.repeat(30)}b`, `${'**a'.repeat(30)}**b`];
    expect(ignorePatterns(lines).ignored(path)).toBe(false);
    expect(ignorePatterns([`${'**/a/'.repeat(30)}a`]).ignored(path)).toBe(true);
    expect(performance.now() - begun).toBeLessThan(5000);
  });
});

describe('what .dockerignore leaves out', () => {
  const out = (lines: string[], path: string) => ignorePatterns(lines).ignored(path);

  it.each([
    [['# comment', '*/temp*'], 'some/temporary.txt', true],
    [['*/temp*'], 'a/b/temporary', false],
    [['*/*/temp*'], 'a/b/temporary', true],
    [['temp?'], 'tempa', true],
    [['temp?'], 'temp', false],
    [['**/*.go'], 'a.go', true],
    [['**/*.go'], 'a/b/c.go', true],
    [['*.md', '!README.md'], 'README.md', false],
    [['*.md', '!README*.md', 'README-secret.md'], 'README-secret.md', true],
    [['*.md', 'README-secret.md', '!README*.md'], 'README-secret.md', false],
    [['node_modules'], 'node_modules/a/b', true],
    [['/foo/bar/'], 'foo/bar', true],
    [['foo//bar'], 'foo/bar', true],
    [['./foo'], 'foo', true],
    [['*', '!src'], 'src/deep/file', false],
    [['*', '!src', 'src/*.o'], 'src/a.o', true],
    [['a/**'], 'a/b/c', true],
    [['a/**'], 'a', false],
    [['a/**/z'], 'a/z', true],
    [['a/**/z'], 'a/b/c/z', true],
    [['  spaces  '], 'spaces', true],
    [['! kept', '*'], 'kept', true],
    [['*', '! kept'], 'kept', false],
    [['\ufeffbom'], 'bom', true],
    [['', '   '], 'x', false],
  ])('%j of %s: %s', (lines, path, ignored) => {
    expect(out(lines, path)).toBe(ignored);
  });

  it('is a list of texts', () => {
    const refused = expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' });
    for (const lines of [[5], ['a', null], 'a', { 0: 'a' }]) {
      expect(() => ignorePatterns(lines as string[])).toThrow(refused);
    }
  });

  it('names the line that is no pattern', () => {
    expect(() => ignorePatterns(['a', '!'])).toThrow('line 2');
    expect(() => ignorePatterns(['[a'])).toThrow('does not end');
  });
});
