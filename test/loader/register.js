// `node --import` this: TypeScript runs from its sources. Tests start hundreds of Nodes, and tsx takes each of them a second.
import * as module from 'node:module';

// Node 26 warns of register(), Node 20 has nothing else.
if (module.registerHooks) module.registerHooks(await import('./hooks.js'));
else module.register('./hooks.js', import.meta.url);
