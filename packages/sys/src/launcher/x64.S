# The launcher, x86-64. Position independent, no libc, no stack use in the child.
# Three entry points, all called with the System V convention:
#
#   offset 0   long call(long nr, long a0 .. a5)   one system call, -errno on failure
#   launch     long launch(struct frame *)         clone, then the child walks the step table
#   walk       void walk(struct frame *)           the calling thread walks it, and returns where the child would exit
#
# struct frame (u64 words)                 struct step (u64 words, 128 bytes)
#    0  nr      clone3 or clone              0  nr        system call number
#    8  a0..a4  its arguments                8  a0..a5    its arguments
#   48  steps   address of the first step   56  indirect  bit i: a[i] is an address to load from
#   56  failed  address of the step that    64  result    what the kernel returned
#               stopped the walk, or 0      72  onZero    bytes to the next step after a result of 0
#   64  errno   0, or why it stopped        80  onValue   bytes to the next step after any other success
#   72  mask    the caller's signal mask    88  ignore    8 errnos (one a byte, 255 = any): go on
#   80  all     ~0, to block all            96  onIgnored bytes to the next step after such an errno
#   88  here    not 0 for a walk           104  again     8 errnos that repeat the step
#                                          112  tries     how often at the most
#                                          120  reached   not 0 once the walk came here
# The child keeps everything in registers that a system call preserves: rbx = step, rbp = frame.
# It may share the caller's memory and stack pointer, so it pushes nothing and calls nothing.

        .intel_syntax noprefix
        .text
call:
        mov     rax, rdi
        mov     rdi, rsi
        mov     rsi, rdx
        mov     rdx, rcx
        mov     r10, r8
        mov     r8, r9
        mov     r9, [rsp + 8]
        syscall
        ret

        .balign 16
launch:
        push    rbx
        push    rbp
        mov     rbp, rdi
        # Block every signal: a handler of the caller must not run in the child.
        mov     eax, 14                 # rt_sigprocmask
        mov     edi, 2                  # SIG_SETMASK
        lea     rsi, [rbp + 80]
        lea     rdx, [rbp + 72]
        mov     r10d, 8
        syscall
        mov     rax, [rbp]
        mov     rdi, [rbp + 8]
        mov     rsi, [rbp + 16]
        mov     rdx, [rbp + 24]
        mov     r10, [rbp + 32]
        mov     r8, [rbp + 40]
        syscall
        test    rax, rax
        jz      child
        mov     rbx, rax
        mov     eax, 14
        mov     edi, 2
        lea     rsi, [rbp + 72]
        xor     edx, edx
        mov     r10d, 8
        syscall
        mov     rax, rbx
        pop     rbp
        pop     rbx
        ret

        .balign 16
walk:
        push    rbx
        push    rbp
        mov     rbp, rdi
child:
        mov     rbx, [rbp + 48]
step:
        mov     [rbx + 120], rbx
again:
        mov     rdi, [rbx + 8]
        mov     rsi, [rbx + 16]
        mov     rdx, [rbx + 24]
        mov     r10, [rbx + 32]
        mov     r8, [rbx + 40]
        mov     r9, [rbx + 48]
        mov     al, [rbx + 56]
        test    al, al
        jz      go
        test    al, 1
        jz      1f
        mov     rdi, [rdi]
1:      test    al, 2
        jz      1f
        mov     rsi, [rsi]
1:      test    al, 4
        jz      1f
        mov     rdx, [rdx]
1:      test    al, 8
        jz      1f
        mov     r10, [r10]
1:      test    al, 16
        jz      1f
        mov     r8, [r8]
1:      test    al, 32
        jz      go
        mov     r9, [r9]
go:
        mov     rax, [rbx]
        syscall
        mov     [rbx + 64], rax
        cmp     rax, -4095
        jae     failed
        test    rax, rax
        jz      1f
        add     rbx, [rbx + 80]
        jmp     step
1:      add     rbx, [rbx + 72]
        jmp     step

failed:
        neg     rax                     # errno, < 4096
        mov     rcx, [rbx + 104]
1:      test    rcx, rcx
        jz      2f
        movzx   edx, cl
        cmp     eax, edx
        je      repeat
        shr     rcx, 8
        jmp     1b
repeat:
        dec     qword ptr [rbx + 112]
        jns     again
2:      mov     rcx, [rbx + 88]
1:      test    rcx, rcx
        jz      stop
        cmp     cl, 255
        je      ignored
        movzx   edx, cl
        cmp     eax, edx
        je      ignored
        shr     rcx, 8
        jmp     1b
ignored:
        add     rbx, [rbx + 96]
        jmp     step
stop:
        mov     [rbp + 56], rbx
        mov     [rbp + 64], rax
        cmp     qword ptr [rbp + 88], 0
        jne     1f
        mov     edi, 127
        mov     eax, 60                 # exit
        syscall
        hlt
1:      pop     rbp
        pop     rbx
        ret
