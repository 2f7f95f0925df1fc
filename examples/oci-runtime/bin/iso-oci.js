#!/usr/bin/env node
// The command is one file, and beside it lies what V8 made of it when it was built: to compile it anew costs more than a container.
// Code of another version of the file is not taken, code of another V8 that one refuses; then it is compiled as ever.
const { readFileSync } = require('node:fs');
const { createRequire } = require('node:module');
const { join } = require('node:path');
const { Script } = require('node:vm');

const file = join(__dirname, '../dist/cli.cjs');
const source = readFileSync(file, 'latin1');
/** Each begins with the hash of the file that was built. */
const HASH = 64;

function cached() {
  try {
    const bytes = readFileSync(`${file}.cache`);
    return bytes.toString('latin1', 0, HASH) === source.slice(2, 2 + HASH) ? bytes.subarray(HASH) : undefined;
  } catch {
    return undefined;
  }
}

const cachedData = cached();
const script = new Script(`(function (exports, require, module, __filename, __dirname) {${source}\n})`, {
  filename: file,
  ...(cachedData && { cachedData }),
});
const module_ = { exports: {} };
script.runInThisContext()(module_.exports, createRequire(file), module_, file, join(__dirname, '../dist'));

// The build has it run a few commands, and keeps what became of them.
module.exports = { script };
