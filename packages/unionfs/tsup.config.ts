import type { Options } from 'tsup';
import base from '../../tsup.config.js';

// The worker is a file of its own, beside what starts it.
const entry = { index: 'src/index.ts', worker: 'src/layer/worker.ts', 'testsuite/index': 'src/testsuite/index.ts' };
const options: Options = { ...base, entry };
export default options;
