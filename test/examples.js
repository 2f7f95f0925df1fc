// Runs modules one after the other in this process and prints how each went, a line of JSON each.
import { writeSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';

let current;
const tell = (error) => writeSync(3, `${JSON.stringify({ file: current, error })}\n`);
const fail = (error) => tell(String(error?.stack ?? error));
// What an example started and did not wait for fails it too.
process.on('unhandledRejection', fail);
process.on('uncaughtException', fail);
for (current of process.argv.slice(2)) {
  try {
    await import(pathToFileURL(current).href);
    await turn();
    tell(null);
  } catch (error) {
    fail(error);
  }
}
// One that leaves a handle open would hang here.
process.exit();
