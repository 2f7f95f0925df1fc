import { describe, expect, it } from 'vitest';
import { ImageError } from '../content/error.js';
import { formatReference, parseReference } from './reference.js';

const digest = `sha256:${'0'.repeat(64)}`;

describe('names of images', () => {
  const good: [text: string, whole: string][] = [
    ['debian', 'docker.io/library/debian:latest'],
    ['debian:12', 'docker.io/library/debian:12'],
    ['a/b', 'docker.io/a/b:latest'],
    ['index.docker.io/debian', 'docker.io/library/debian:latest'],
    ['localhost/a', 'localhost/a:latest'],
    ['localhost:5000/a:b', 'localhost:5000/a:b'],
    ['[::1]:5000/a/b-c__d.e', '[::1]:5000/a/b-c__d.e:latest'],
    ['ghcr.io/a/b/c:T.1_x', 'ghcr.io/a/b/c:T.1_x'],
    [`quay.io/a@${digest}`, `quay.io/a@${digest}`],
    [`a:b@${digest}`, `docker.io/library/a:b@${digest}`],
    ['127.0.0.1:80/a', '127.0.0.1:80/a:latest'],
  ];
  for (const [text, whole] of good) {
    it(text, () => {
      expect(formatReference(parseReference(text))).toBe(whole);
      expect(formatReference(parseReference(whole))).toBe(whole);
    });
  }

  const bad = ['', ':', '/', 'A', 'a/', '/a', 'a//b', 'a/../b', '..', 'a:', 'a:-b', 'a@', 'a@sha256:1', 'a b', 'a\0'];
  bad.push(
    'http://a/b',
    'a..b',
    'a/b/',
    'ghcr.io/',
    'host:99999/a',
    `a:${'t'.repeat(129)}`,
    'x'.repeat(700),
    'a?b',
    'a#b',
  );
  bad.push('user@host/a', 'ho_st.com:1/a', '-a.com/b', 'a\n', 'ａ', 'host.com:1/a/%2e%2e');
  for (const text of bad) {
    it(`not ${JSON.stringify(text.slice(0, 30))}`, () => {
      expect(() => parseReference(text)).toThrow(ImageError);
    });
  }
});
