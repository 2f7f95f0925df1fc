# The first process of a container, x86-64: a complete ELF file. It reaps whatever ends, passes signals on to the program,
# and ends as the program ended: its exit code, or 128 + the signal. Every signal is blocked from its birth on, so none is
# lost between two looks. The launch writes the program's pid at `told`.

        .intel_syntax noprefix
        .text
        .set base, 0x400000
file:
        .byte   0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0      # ELF, 64 bit, little endian
        .quad   0
        .short  2, 62                                   # ET_EXEC, EM_X86_64
        .long   1
        .quad   base + start - file
        .quad   64, 0                                   # program headers, no sections
        .long   0
        .short  64, 56, 1, 0, 0, 0
        .long   1, 5                                    # PT_LOAD, read and execute
        .quad   0, base, base, end - file, end - file, 0x1000
told:
        .quad   0
all:
        .quad   -1

start:
        sub     rsp, 16
        mov     ebx, [rip + told]
reap:
        mov     eax, 61                 # wait4(-1, status, WNOHANG, 0)
        mov     rdi, -1
        mov     rsi, rsp
        mov     edx, 1
        xor     r10d, r10d
        syscall
        cmp     eax, ebx
        je      ended
        test    eax, eax
        jg      reap
        mov     eax, 128                # rt_sigtimedwait(all, 0, 0, 8)
        lea     rdi, [rip + all]
        xor     esi, esi
        xor     edx, edx
        mov     r10d, 8
        syscall
        cmp     eax, 17                 # SIGCHLD
        je      reap
        test    eax, eax
        jle     reap
        mov     esi, eax
        mov     eax, 62                 # kill(pid, signal)
        mov     edi, ebx
        syscall
        jmp     reap
ended:
        mov     eax, [rsp]
        mov     edi, eax
        and     edi, 127
        jz      1f
        add     edi, 128
        jmp     2f
1:      movzx   edi, ah
2:      mov     eax, 231                # exit_group
        syscall
        hlt
end:
