import { AT, type Fd, type LaunchProgram, type Slot, type StepOptions } from '@iso/sys';
import { FSCONFIG, FSOPEN_CLOEXEC, MNT, MOVE_MOUNT, MS, OPEN_TREE } from './raw/flags.js';
import { mountAttr } from './raw/structs.js';

/**
 * A new file system, detached: fsopen(2), fsconfig(2), fsmount(2). A refusal carries the kernel's own words.
 *
 * @param program - the launch
 * @param type - the file system
 * @param options - its parameters, `true` for one without a value; `optional` ones may be refused with EINVAL; `attr` MOUNT_ATTR bits; `hint` on
 * a refusal, or what makes it then
 * @returns slot of the mount's descriptor
 */
export function newMount(
  program: LaunchProgram,
  type: string,
  options: {
    parameters?: Readonly<Record<string, string | true>>;
    optional?: Readonly<Record<string, string>>;
    attr?: number;
    hint?: string | (() => string) | undefined;
  } = {},
): Slot {
  const { hint } = options;
  const refused: StepOptions = hint === undefined ? {} : { hint };
  const context = program.step('mount', 'fsopen', [type, FSOPEN_CLOEXEC], refused);
  for (const [key, value] of Object.entries(options.parameters ?? {})) {
    const [command, text] = value === true ? [FSCONFIG.SET_FLAG, null] : [FSCONFIG.SET_STRING, value];
    program.step('mount', 'fsconfig', [context, command, key, text, 0], { context });
  }
  for (const [key, value] of Object.entries(options.optional ?? {})) {
    program.step('mount', 'fsconfig', [context, FSCONFIG.SET_STRING, key, value, 0], { ignore: ['EINVAL'] });
  }
  const text = () => `fsconfig(${type}, FSCONFIG_CMD_CREATE)`;
  program.step('mount', 'fsconfig', [context, FSCONFIG.CMD_CREATE, null, null, 0], { ...refused, context, text });
  return program.step('mount', 'fsmount', [context, FSOPEN_CLOEXEC, options.attr ?? 0], refused);
}

/** How a clone of mounts differs from them. */
export interface CloneOptions {
  /** Takes the mounts below it too. */
  recursive?: boolean;
  /** MOUNT_ATTR bits to set, on all of them. */
  attr?: number;
  /** MOUNT_ATTR bits to clear, on all of them. */
  clear?: number;
  /** What to say when the attributes are refused, or what makes it then. */
  hint?: string | (() => string);
  /** MS.PRIVATE (default), MS.SLAVE, MS.SHARED; 0 for a clone of a mount that is private. */
  propagation?: number;
}

/**
 * A clone of the mounts at a path or descriptor of the child, private, with attributes. Of a shared mount the clone would
 * be shared too, and what is mounted on it would appear on the host.
 *
 * @param program - the launch
 * @param from - a path of the host, or a slot
 * @param options - attributes, and whether the mounts below come with it
 * @returns slot of the detached mount's descriptor
 */
export function cloneMount(
  program: LaunchProgram,
  from: string | Slot | { at: Slot; name: string },
  options: CloneOptions = {},
): Slot {
  const flags = cloneFlags(options);
  const tree =
    typeof from === 'string'
      ? program.step('mount', 'open_tree', [AT.FDCWD, from, flags], {
          hint: {
            EINVAL:
              'the mount is unbindable, or others below it are locked: those a bind takes with it only if recursive',
          },
        })
      : 'at' in from
        ? program.step('mount', 'open_tree', [from.at, from.name, flags])
        : program.step('mount', 'open_tree', [from, '', flags | AT.EMPTY_PATH]);
  const { attr = 0, clear = 0, propagation = MS.PRIVATE, recursive, hint } = options;
  if (!attr && !clear && !propagation) return tree;
  const bytes = mountAttr({ set: attr, clear, propagation });
  program.step('mount', 'mount_setattr', [tree, '', deep(options) | AT.EMPTY_PATH, bytes, bytes.length], {
    text: () => {
      const cleared = clear ? `, clear: 0x${clear.toString(16)}` : '';
      const changes = `{set: 0x${attr.toString(16)}${cleared}, propagation: 0x${propagation.toString(16)}}`;
      return `mount_setattr(tree, ${changes}${recursive ? ', AT_RECURSIVE' : ''})`;
    },
    ...(hint === undefined ? {} : { hint }),
  });
  return tree;
}

function deep(options: CloneOptions): number {
  return options.recursive ? AT.RECURSIVE : 0;
}

function cloneFlags(options: CloneOptions): number {
  return OPEN_TREE.CLONE | OPEN_TREE.CLOEXEC | deep(options);
}

/**
 * Attaches a detached mount on a descriptor: no path, no symbolic link.
 *
 * @param program - the launch
 * @param mount - the mount
 * @param target - slot of the target
 */
export function attach(program: LaunchProgram, mount: Slot | Fd, target: Slot): void {
  program.step('mount', 'move_mount', [mount, '', target, '', MOVE_MOUNT.F_EMPTY_PATH | MOVE_MOUNT.T_EMPTY_PATH]);
}

/**
 * Detaches the mount whose root a descriptor is, where nothing lies on top of it. The working directory is left in it.
 *
 * @param program - the launch
 * @param mount - slot of a descriptor of its root
 */
export function detach(program: LaunchProgram, mount: Slot): void {
  program.step('mount', 'fchdir', [mount]);
  program.step('mount', 'umount2', ['.', MNT.DETACH]);
}
