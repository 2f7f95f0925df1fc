/**
 * A value of D-Bus: numbers, for 64 bits bigints; text for strings, object paths and signatures; a list for arrays and structures; for a
 * dictionary a list of pairs; bytes for an array of them.
 */
export type Value = number | bigint | boolean | string | Uint8Array | Variant | readonly Value[];

/** A value that brings its type along. */
export class Variant {
  readonly signature: string;
  readonly value: Value;

  constructor(signature: string, value: Value) {
    this.signature = signature;
    this.value = value;
  }
}

const OBJECT_PATH = /^\/$|^(\/[A-Za-z0-9_]+)+$/;

/** Whether text is the path of an object. */
export function isObjectPath(text: string): boolean {
  return OBJECT_PATH.test(text);
}
