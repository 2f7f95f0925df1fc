// Maps the launch table in the file argv[1] where it was written for, runs the launcher over it, waits for the child.
// What it saw goes into the words behind the frame's own, the pid into the first: see walk.js. BASE, SIZE and ENTRY come from there.

        .text
        .balign 16
code:
        .incbin "launcher.bin"
        .balign 4
        .global _start
_start:
        ldr     x2, [sp, #16]
        mov     x0, #56                 // openat(AT_FDCWD, argv[1], O_RDWR)
        mov     x1, #-100
        mov     x3, #2
        bl      code
        mov     x5, x0
        mov     x0, #222                // mmap(BASE, SIZE, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_FIXED, fd, 0)
        ldr     x1, =BASE
        ldr     x2, =SIZE
        mov     x3, #3
        mov     x4, #0x11
        mov     x6, #0
        bl      code
        mov     x21, x0
        mov     x9, #0x200              // a signal mask of our own, to see that it comes back: SIGUSR1
        str     x9, [x21, #120]
        mov     x0, #135                // rt_sigprocmask(SIG_SETMASK, it, NULL, 8)
        mov     x1, #2
        add     x2, x21, #120
        mov     x3, #0
        mov     x4, #8
        bl      code

        mov     x19, #19
        mov     x20, #20
        mov     x22, sp
        mov     x0, x21
        bl      code + ENTRY
        str     x0, [x21]
        mov     x9, sp
        cmp     x19, #19                // what a callee must preserve
        ccmp    x20, #20, #0, eq
        ccmp    x9, x22, #0, eq
        cset    x9, eq
        str     x9, [x21, #112]
        mov     x0, #135                // rt_sigprocmask(SIG_BLOCK, NULL, the mask now, 8)
        mov     x1, #0
        mov     x2, #0
        add     x3, x21, #120
        mov     x4, #8
        bl      code
        ldr     x1, [x21]
        cmp     x1, #0
        b.le    1f
        mov     x0, #260                // wait4(child, status, 0, NULL)
        add     x2, x21, #104
        mov     x3, #0
        mov     x4, #0
        bl      code
        str     x0, [x21, #96]
1:      mov     x0, #94                 // exit_group(0)
        mov     x1, #0
        bl      code
