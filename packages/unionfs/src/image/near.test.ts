import { expect, it } from 'vitest';
import { nearNames } from './near.js';

it('finds what was meant, and nothing else', () => {
  const names = [
    'docker.io/library/debian:12',
    'docker.io/library/alpine:3',
    'ghcr.io/x/debian-slim@sha256:00',
    'site',
  ];
  expect(nearNames('docker.io/library/debian:13', names)).toEqual(['docker.io/library/debian:12']);
  expect(nearNames('debain', names)).toEqual(['docker.io/library/debian:12']);
  expect(nearNames('sites', [...names, 'sit', 'sites2', 'xsites2'])).toEqual(['site', 'sites2', 'sit']);
  expect(nearNames('busybox', names)).toEqual([]);
  expect(nearNames('', names)).toEqual([]);
});
