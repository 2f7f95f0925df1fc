/** A program as machine code. */
export interface Machine {
  /** Its ELF file, in hexadecimal. */
  code: string;
  /** Where in it the number belongs that it is told. */
  toldAt: number;
}
