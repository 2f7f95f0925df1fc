/**
 * Linux capabilities: of processes, of files, and of what is launched.
 *
 * @packageDocumentation
 */
export {
  type CapableFile,
  decodeFileCapabilities,
  encodeFileCapabilities,
  type FileCapabilities,
  type FileCapabilitiesOptions,
  formatFileCapabilities,
  readFileCapabilities,
  removeFileCapabilities,
  writeFileCapabilities,
} from './file.js';
export {
  type CapabilityList,
  type CapabilityMask,
  type CapabilityName,
  capabilityName,
  capabilityNames,
  capabilityNumber,
  dockerCapabilities,
  formatCapabilities,
  lastCapability,
  maskOf,
  namesOf,
  parseCapabilities,
} from './name.js';
export { type CapabilitiesOptions, capabilities } from './part.js';
export {
  type CapabilitySets,
  capabilitiesOf,
  capget,
  type ProcessCapabilities,
  type SecureBit,
  secureBits,
} from './process.js';
