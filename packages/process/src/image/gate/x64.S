# What a held process executes until it is let go, x86-64: a complete ELF file. It reads a byte from the descriptor `told`; then it
# executes the program. Its arguments are the paths to try, an empty one, and the program's own arguments. Where none can be executed it
# writes the error's number to the descriptor, four bytes, and ends with 127, or 126 where one was there; with 125 where it cannot
# read, or nobody is left who could let it go.

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

start:
        lea     r12, [rsp + 8]          # the paths
        mov     rbp, r12
        mov     r14d, 125
1:      mov     rax, [rbp]
        add     rbp, 8                  # at last the program's arguments
        test    rax, rax                # not for us: a script that names /proc/self/exe
        jz      ended
        cmp     byte ptr [rax], 0
        jne     1b
        mov     r13, rbp
1:      mov     rax, [r13]
        add     r13, 8                  # at last the environment
        test    rax, rax
        jnz     1b
        sub     rsp, 16
wait:
        xor     eax, eax                # read(told, byte, 1)
        mov     edi, [rip + told]
        mov     rsi, rsp
        mov     edx, 1
        syscall
        cmp     eax, -4                 # EINTR
        je      wait
        mov     r15d, eax
        cmp     eax, 1
        jl      failed
        mov     eax, 72                 # fcntl(told, F_SETFD, FD_CLOEXEC)
        mov     edi, [rip + told]
        mov     esi, 2
        mov     edx, 1
        syscall
        mov     r14d, 127
try:
        mov     rdi, [r12]              # execve(path, arguments, environment)
        add     r12, 8
        cmp     byte ptr [rdi], 0
        je      failed
        mov     rsi, rbp
        mov     rdx, r13
        mov     eax, 59
        syscall
        cmp     eax, -2                 # ENOENT
        je      missing
        cmp     eax, -20                # ENOTDIR
        je      missing
        mov     r14d, 126
        mov     r15d, eax
        jmp     try
missing:
        cmp     r14d, 126               # what was there says more
        je      try
        mov     r15d, eax
        jmp     try
failed:
        neg     r15d
        jz      ended
        mov     [rsp], r15d
        mov     eax, 1                  # write(told, error, 4)
        mov     edi, [rip + told]
        mov     rsi, rsp
        mov     edx, 4
        syscall
ended:
        mov     edi, r14d
        mov     eax, 231                # exit_group
        syscall
        hlt
end:
