import { appendFileSync } from 'node:fs';

/** Where errors go besides standard error. */
export interface LogOptions {
  log?: string;
  logFormat?: 'text' | 'json';
}

/**
 * Tells of an error or a warning, in the way that engines read it.
 *
 * @param level - which of them
 * @param message - what is wrong
 * @param options - where to
 */
export function tell(level: 'error' | 'warning', message: string, { log, logFormat = 'text' }: LogOptions): void {
  const msg = message.trim().replace(/\s*\n\s*/g, ' ');
  process.stderr.write(`iso-oci: ${level === 'error' ? '' : `${level}: `}${msg}\n`);
  if (log === undefined) return;
  const time = new Date().toISOString();
  const line =
    logFormat === 'json'
      ? JSON.stringify({ level, msg, time })
      : `time=${JSON.stringify(time)} level=${level} msg=${JSON.stringify(msg)}`;
  appendFileSync(log, `${line}\n`);
}
