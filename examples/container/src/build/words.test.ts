import { describe, expect, it } from 'vitest';
import { splitWords, substitute } from './words.js';

const variables = { A: 'a', EMPTY: '', PATH: '/x/y/z.tar.gz', person: 'Käse' };
const mean = (word: string, escaper = '\\') => substitute(word, variables, { escaper });

// Expected by docker's reference of the Dockerfile, section "Environment replacement", and by what sh does with the same word.
describe('a word of a Dockerfile', () => {
  it.each([
    ['$A', 'a'],
    ['${A}b', 'ab'],
    ['$Ab', ''],
    ['\\$A', '$A'],
    ['\\${A}', '${A}'],
    ["'$A'", '$A'],
    ['"$A b"', 'a b'],
    ['"\\$A \\x \\""', '$A \\x "'],
    ['a\\ b', 'a b'],
    ['$', '$'],
    ['a$/', 'a$/'],
    ['$1x', 'x'],
    ['${EMPTY:-d}', 'd'],
    ['${EMPTY-d}', ''],
    ['${NONE-d}', 'd'],
    ['${NONE:-$A}', 'a'],
    ['${NONE:-${EMPTY:-"q w"}}', 'q w'],
    ['${A:+set}', 'set'],
    ['${EMPTY:+set}', ''],
    ['${EMPTY+set}', 'set'],
    ['${A:?no}', 'a'],
    ['${PATH#*/}', 'x/y/z.tar.gz'],
    ['${PATH##*/}', 'z.tar.gz'],
    ['${PATH%.*}', '/x/y/z.tar'],
    ['${PATH%%.*}', '/x/y/z'],
    ['${PATH%none}', '/x/y/z.tar.gz'],
    ['${PATH/y/$A}', '/x/a/z.tar.gz'],
    ['${PATH//\\//:}', ':x:y:z.tar.gz'],
    ['${person}', 'Käse'],
  ])('%s is %s', (word, meaning) => {
    expect(mean(word)).toBe(meaning);
  });

  it('is escaped by the character that the file names', () => {
    expect(mean('`$A \\x', '`')).toBe('$A \\x');
    expect(mean('c:\\dir', '`')).toBe('c:\\dir');
  });

  it('has its quotes where they are text', () => {
    expect(substitute('"$A" \'$A\' \\$A \\n', variables, { escaper: '\\', quotes: false })).toBe('"a" \'a\' $A \\n');
  });

  it.each(['"a', "'a", '${A', '${', '${A:x}', '${NONE:?is missing}', '${A!}'])('%s is refused', (word) => {
    expect(() => mean(word)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }));
  });

  it('ends at a space outside of quotes', () => {
    expect(splitWords('a  b="c d" \'e f\'=g h\\ i "j \\" k"', '\\')).toEqual([
      'a',
      'b="c d"',
      "'e f'=g",
      'h\\ i',
      '"j \\" k"',
    ]);
  });
});
