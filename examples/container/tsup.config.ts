import base from '../../tsup.config.js';

// A supervisor is a program of its own.
export default { ...base, entry: ['src/index.ts', 'src/cli.ts', 'src/demo.ts', 'src/supervise/supervisor.ts'] };
