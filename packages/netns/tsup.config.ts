import base from '../../tsup.config.js';

export default { ...base, entry: ['src/index.ts', 'src/{conntrack,netlink,network,nft,route,tc}/index.ts'] };
