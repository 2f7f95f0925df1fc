/**
 * The eight Linux namespaces as objects.
 *
 * @packageDocumentation
 */
export { type IdRange, idMapText, parseIdMap, parseSubordinateIds, type SubordinateRange } from './idmap.js';
export { type ListedNamespace, listNamespaces } from './list.js';
export { type CreateOptions, Namespace, type NamespaceSource } from './namespace.js';
export { type Choice, type NamespacesOptions, namespaces } from './part.js';
export { type NamespaceType, types } from './type.js';
export { type UserMapping, type UserMaps, UserNamespace } from './user.js';
