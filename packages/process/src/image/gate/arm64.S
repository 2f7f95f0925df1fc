// What a held process executes until it is let go, arm64: a complete ELF file. See x64.S.

        .text
        .set base, 0x400000
file:
        .byte   0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0
        .quad   0
        .short  2, 183                          // ET_EXEC, EM_AARCH64
        .word   1
        .quad   base + start - file
        .quad   64, 0
        .word   0
        .short  64, 56, 1, 0, 0, 0
        .word   1, 5                            // PT_LOAD, read and execute
        .quad   0, base, base, end - file, end - file, 0x10000
told:
        .quad   0

start:
        add     x19, sp, 8                      // the paths
        mov     x20, x19
        mov     w23, 125
1:      ldr     x0, [x20], 8                    // at last the program's arguments
        cbz     x0, ended                       // not for us: a script that names /proc/self/exe
        ldrb    w0, [x0]
        cbnz    w0, 1b
        mov     x21, x20
1:      ldr     x0, [x21], 8                    // at last the environment
        cbnz    x0, 1b
        adr     x1, told
        ldr     w22, [x1]
        sub     sp, sp, 16
wait:
        mov     x8, 63                          // read(told, byte, 1)
        mov     w0, w22
        mov     x1, sp
        mov     x2, 1
        svc     0
        cmn     w0, 4                           // EINTR
        b.eq    wait
        mov     w24, w0
        cmp     w0, 1
        b.lt    failed
        mov     x8, 25                          // fcntl(told, F_SETFD, FD_CLOEXEC)
        mov     w0, w22
        mov     x1, 2
        mov     x2, 1
        svc     0
        mov     w23, 127
try:
        ldr     x0, [x19], 8                    // execve(path, arguments, environment)
        ldrb    w1, [x0]
        cbz     w1, failed
        mov     x1, x20
        mov     x2, x21
        mov     x8, 221
        svc     0
        cmn     w0, 2                           // ENOENT
        b.eq    missing
        cmn     w0, 20                          // ENOTDIR
        b.eq    missing
        mov     w23, 126
        mov     w24, w0
        b       try
missing:
        cmp     w23, 126                        // what was there says more
        b.eq    try
        mov     w24, w0
        b       try
failed:
        cbz     w24, ended
        neg     w24, w24
        str     w24, [sp]
        mov     x8, 64                          // write(told, error, 4)
        mov     w0, w22
        mov     x1, sp
        mov     x2, 4
        svc     0
ended:
        mov     w0, w23
        mov     x8, 94                          // exit_group
        svc     0
end:
