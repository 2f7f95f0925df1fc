// Causes of events in groups that are called PREFIX0, PREFIX1 … and a loop of poll(2) that waits for them. Times are in nanoseconds.
// watch PREFIX KEY [VALUE]: tells when each group's line of cgroup.events has changed (to the value), as soon as that was seen of all.
// cause: reads lines from its input, does what they say, group by group, and tells when each began.
//   "leave PREFIX"    a process of the group ends, its last one; the time is its own, just before
//   "freeze PREFIX V" V is written into cgroup.freeze
#include "clock.h"
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
  GROUPS = 32,
  /** Microseconds from one cause to the next. */
  APART = 2000,
  /** The kernel tells of a file at most every 10 ms, rounded up to its ticks: a while after which it tells at once. */
  QUIET = 25000
};

static void answerAll(const long long *times) {
  for (int i = 0; i < GROUPS; i++) printf(i ? " %lld" : "%lld", times[i]);
  printf("\n");
  fflush(stdout);
}

static int openIn(const char *prefix, int group, const char *name, int flags) {
  char path[4096];
  snprintf(path, sizeof path, "%s%d/%s", prefix, group, name);
  return open(path, flags | O_CLOEXEC);
}

static long long writeIn(const char *prefix, int group, const char *name, const char *value) {
  int fd = openIn(prefix, group, name, O_WRONLY);
  long long start = now();
  if (write(fd, value, strlen(value)) < 0) _exit(1);
  close(fd);
  return start;
}

static int state(int fd, const char *key) {
  char text[4096];
  ssize_t length = pread(fd, text, sizeof text - 1, 0);
  if (length < 0) return -1;
  text[length] = 0;
  char *line = strstr(text, key);
  return line ? line[strlen(key) + 1] : -1;
}

static int watch(const char *prefix, const char *key, const char *value) {
  struct pollfd files[GROUPS];
  int before[GROUPS], seen = 0;
  long long times[GROUPS];
  for (int i = 0; i < GROUPS; i++) {
    files[i] = (struct pollfd){.fd = openIn(prefix, i, "cgroup.events", O_RDONLY), .events = POLLPRI};
    before[i] = state(files[i].fd, key);
  }
  for (;;) {
    if (poll(files, GROUPS, -1) < 0) return 1;
    for (int i = 0; i < GROUPS; i++) {
      if (!files[i].revents) continue;
      int after = state(files[i].fd, key);
      if (after < 0) return 0;
      if (after != before[i] && (!value || after == *value)) {
        times[i] = now();
        seen++;
      }
      before[i] = after;
    }
    if (seen == GROUPS) {
      answerAll(times);
      seen = 0;
    }
  }
}

static int cause(void) {
  char what[16], prefix[4000], value[16];
  long long *times = mmap(NULL, GROUPS * sizeof *times, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  while (scanf("%15s %3999s", what, prefix) == 2) {
    if (strcmp(what, "leave") == 0) {
      for (int i = 0; i < GROUPS; i++) {
        if (fork() > 0) continue;
        writeIn(prefix, i, "cgroup.procs", "0");
        usleep(QUIET + i * APART);
        times[i] = now();
        _exit(0);
      }
      while (wait(NULL) > 0) continue;
    } else if (scanf("%15s", value) == 1) {
      for (int i = 0; i < GROUPS; i++) {
        usleep(APART);
        times[i] = writeIn(prefix, i, "cgroup.freeze", value);
      }
    } else return 1;
    answerAll(times);
    usleep(QUIET);
  }
  return 0;
}

int main(int count, char **arguments) {
  return count > 3 && strcmp(arguments[1], "watch") == 0 ? watch(arguments[2], arguments[3], arguments[4]) : cause();
}
