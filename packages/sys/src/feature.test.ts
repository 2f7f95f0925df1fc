import { describe, expect, it } from 'vitest';
import { Feature, features, KernelError, syscall, UnsupportedError } from './index.js';
import { RecordingKernel } from './testing/index.js';

const tries = () => new Feature('quotactl_fd', () => syscall('quotactl_fd', -1, 0, 0, null), { since: '5.14' });

function thrownBy(action: () => unknown): unknown {
  try {
    action();
  } catch (error) {
    return error;
  }
  throw new Error('nothing was thrown');
}

describe('a feature', () => {
  it('that is there is tried once', () => {
    const feature = tries();
    const kernel = new RecordingKernel();
    kernel.run(() => {
      expect(feature.probe()).toEqual({ state: 'supported' });
      expect(feature.probe()).toEqual({ state: 'supported' });
      feature.require();
    });
    expect(kernel.calls.map(({ name }) => name)).toEqual(['quotactl_fd']);
  });

  it('that is lacking is tried once, and names itself, how that showed and who has it', () => {
    const feature = tries();
    const kernel = new RecordingKernel().fail('quotactl_fd', 'ENOSYS');
    const found = kernel.run(() => feature.probe());
    expect(found).toEqual({ state: 'unsupported', reason: expect.stringContaining('ENOSYS'), since: '5.14' });
    expect(feature.probe()).toBe(found);
    const error = thrownBy(() => feature.require());
    expect(error).toBeInstanceOf(UnsupportedError);
    expect(error).toMatchObject({ feature: 'quotactl_fd', since: '5.14', code: 'EUNSUPPORTED' });
    expect(kernel.calls.length).toBe(1);
  });

  it('that cannot be found out is unknown, throws why, and is tried again', () => {
    const feature = tries();
    const denied = new RecordingKernel().fail('quotactl_fd', 'EPERM');
    expect(denied.run(() => feature.probe())).toMatchObject({ state: 'unknown', cause: { code: 'EPERM' } });
    expect(
      KernelError.is(
        denied.run(() => thrownBy(() => feature.require())),
        'EPERM',
      ),
    ).toBe(true);
    expect(denied.calls.length).toBe(2);
    expect(new RecordingKernel().run(() => feature.probe())).toEqual({ state: 'supported' });
    expect(denied.run(() => feature.probe())).toEqual({ state: 'supported' });
  });
});

it('a call that the kernel does not know is an UnsupportedError that names it', () => {
  const kernel = new RecordingKernel().fail('openat2', 'ENOSYS');
  const error = kernel.run(() => thrownBy(() => syscall('openat2', -100, '/', null, 0)));
  expect(error).toBeInstanceOf(UnsupportedError);
  expect(error).toMatchObject({ feature: 'openat2', cause: { code: 'ENOSYS', path: '/' } });
});

it('each feature of this package tries something, and says what it found', () => {
  for (const [name, feature] of Object.entries(features)) {
    const found = feature.probe();
    expect(['supported', 'unsupported', 'unknown'], name).toContain(found.state);
    if (found.state === 'unsupported') expect(found.reason, name).not.toBe('');
    if (found.state === 'unknown') expect(found.cause, name).toBeInstanceOf(Error);
  }
});
