/**
 * What every storage driver must do, as cases for any test runner.
 *
 * @packageDocumentation
 */
export { type ConformanceCase, conformance } from './conformance.js';
