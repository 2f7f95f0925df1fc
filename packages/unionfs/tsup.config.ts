import type { Options } from 'tsup';
import base from '../../tsup.config.js';

// The worker is a file of its own, beside what starts it.
const options: Options = { ...base, entry: { index: 'src/index.ts', worker: 'src/layer/worker.ts' } };
export default options;
