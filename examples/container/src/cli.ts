#!/usr/bin/env node
import { CommanderError } from 'commander';
import { commands, load } from './commands.js';
import { failureCode } from './exitcode.js';
import { complain } from './say.js';

const asked = process.argv[2] ?? '';
const iso = await load(Object.hasOwn(commands, asked) ? [asked] : asked === '--version' ? [] : undefined);
try {
  await iso.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 125;
  else {
    complain(error instanceof Error ? error.message : String(error));
    process.exitCode = failureCode(error);
  }
}
