export { withTesting as default } from '../../tsup.config.js';
