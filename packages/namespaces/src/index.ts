/**
 * The eight Linux namespaces as objects.
 *
 * @packageDocumentation
 */
export { type IdRange, idMapText, parseIdMap } from './idmap.js';
export { type ListedNamespace, listNamespaces, type NamespaceNode, namespaceTree } from './list.js';
export { type CreateOptions, Namespace } from './namespace.js';
export { type Choice, type NamespacesOptions, namespaces } from './part.js';
export type { NamespaceSource } from './source.js';
export { parseSubordinateIds, type SubordinateRange, subordinateIds, subordinateMap } from './subordinate.js';
export type { TimeOffsets } from './time.js';
export { tracers } from './tracers.js';
export { type NamespaceType, types } from './type.js';
export { type UserMapping, type UserMaps, UserNamespace } from './user.js';
export type { HostNames } from './uts.js';
