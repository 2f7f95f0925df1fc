// Starts /bin/true in a group, to its exit: CLONE_INTO_CGROUP where the first argument is a directory of v2 (else -), and for each
// further argument, a v1 tasks file, a write in the child. Reads a count and answers with the nanoseconds that each took.
#define _GNU_SOURCE
#include "clock.h"
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/** Inline, for the child shares the stack: a function must not return twice from it. */
static inline __attribute__((always_inline)) long clone3(struct clone_args *args) {
#if defined(__x86_64__)
  long result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(SYS_clone3), "D"(args), "S"(sizeof *args) : "rcx", "r11", "memory");
  return result;
#else
  register long number __asm__("x8") = SYS_clone3, result __asm__("x0") = (long)args, size __asm__("x1") = sizeof *args;
  __asm__ volatile("svc 0" : "+r"(result) : "r"(number), "r"(size) : "memory");
  return result;
#endif
}

/** A function of its own, below the frame that is the parent's too. */
static void __attribute__((noinline, noreturn)) child(int count, const int *tasks, int null_fd) {
  char *words[] = {"/bin/true", NULL}, *env[] = {NULL};
  for (int i = 0; i < count; i++)
    if (syscall(SYS_write, tasks[i], "0", 1) != 1) _exit(126);
  for (int i = 0; i < 3; i++) syscall(SYS_dup3, null_fd, i, 0);
  syscall(SYS_close_range, 3, ~0u, 0);
  syscall(SYS_execve, "/bin/true", words, env);
  _exit(127);
}

static void one(int count, char **paths, int null_fd) {
  int pidfd, fds[32];
  struct clone_args args = {.flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD, .pidfd = (unsigned long)&pidfd, .exit_signal = SIGCHLD};
  int group = open(paths[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (group >= 0) {
    args.flags |= CLONE_INTO_CGROUP;
    args.cgroup = group;
  }
  for (int i = 2; i < count; i++) fds[i] = open(paths[i], O_WRONLY | O_CLOEXEC);
  long pid = clone3(&args);
  if (pid == 0) child(count - 2, fds + 2, null_fd);
  for (int i = 2; i < count; i++) close(fds[i]);
  if (group >= 0) close(group);
  siginfo_t info;
  if (pid < 0 || waitid(P_PIDFD, pidfd, &info, WEXITED) != 0 || info.si_status != 0) {
    perror("clone3");
    exit(1);
  }
  close(pidfd);
}

int main(int count, char **paths) {
  int rounds, null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
  while (scanf("%d", &rounds) == 1) {
    long long start = now();
    for (int round = 0; round < rounds; round++) one(count, paths, null_fd);
    answer((now() - start) / rounds);
  }
  return 0;
}
