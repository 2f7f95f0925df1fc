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

  it('names the line that is no pattern', () => {
    expect(() => ignorePatterns(['a', '!'])).toThrow('line 2');
    expect(() => ignorePatterns(['[a'])).toThrow('does not end');
  });
});
