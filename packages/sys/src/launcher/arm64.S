// The launcher, AArch64. The layout of frame and step, and the rules, are in x64.S.
// The child keeps everything in x19 = step and x20 = frame; the kernel preserves all but x0.

        .text
call:
        mov     x8, x0
        mov     x0, x1
        mov     x1, x2
        mov     x2, x3
        mov     x3, x4
        mov     x4, x5
        mov     x5, x6
        svc     #0
        ret

        .balign 16
launch:
        stp     x19, x20, [sp, #-16]!
        mov     x20, x0
        mov     x8, #135                // rt_sigprocmask
        mov     x0, #2                  // SIG_SETMASK
        add     x1, x20, #80
        add     x2, x20, #72
        mov     x3, #8
        svc     #0
        ldr     x8, [x20]
        ldp     x0, x1, [x20, #8]
        ldp     x2, x3, [x20, #24]
        ldr     x4, [x20, #40]
        svc     #0
        cbz     x0, child
        mov     x19, x0
        mov     x8, #135
        mov     x0, #2
        add     x1, x20, #72
        mov     x2, #0
        mov     x3, #8
        svc     #0
        mov     x0, x19
        ldp     x19, x20, [sp], #16
        ret

        .balign 16
walk:
        stp     x19, x20, [sp, #-16]!
        mov     x20, x0
child:
        ldr     x19, [x20, #48]
step:
        str     x19, [x19, #120]
again:
        ldp     x0, x1, [x19, #8]
        ldp     x2, x3, [x19, #24]
        ldp     x4, x5, [x19, #40]
        ldr     x9, [x19, #56]
        cbz     x9, go
        tbz     x9, #0, 1f
        ldr     x0, [x0]
1:      tbz     x9, #1, 1f
        ldr     x1, [x1]
1:      tbz     x9, #2, 1f
        ldr     x2, [x2]
1:      tbz     x9, #3, 1f
        ldr     x3, [x3]
1:      tbz     x9, #4, 1f
        ldr     x4, [x4]
1:      tbz     x9, #5, go
        ldr     x5, [x5]
go:
        ldr     x8, [x19]
        svc     #0
        str     x0, [x19, #64]
        cmn     x0, #4095
        b.hs    failed
        ldp     x9, x10, [x19, #72]
        cmp     x0, #0
        csel    x9, x9, x10, eq
        add     x19, x19, x9
        b       step

failed:
        neg     x0, x0
        ldr     x9, [x19, #104]
1:      cbz     x9, 2f
        and     x10, x9, #0xff
        cmp     x10, x0
        b.eq    repeat
        lsr     x9, x9, #8
        b       1b
repeat:
        ldr     x9, [x19, #112]
        subs    x9, x9, #1
        str     x9, [x19, #112]
        b.pl    again
2:      ldr     x9, [x19, #88]
1:      cbz     x9, stop
        and     x10, x9, #0xff
        cmp     x10, #255
        b.eq    ignored
        cmp     x10, x0
        b.eq    ignored
        lsr     x9, x9, #8
        b       1b
ignored:
        ldr     x9, [x19, #96]
        add     x19, x19, x9
        b       step
stop:
        stp     x19, x0, [x20, #56]
        ldr     x9, [x20, #88]
        cbnz    x9, 1f
        mov     x0, #127
        mov     x8, #93                 // exit
        svc     #0
        brk     #0
1:      ldp     x19, x20, [sp], #16
        ret
