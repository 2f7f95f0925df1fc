// watch FILE: tells when a line of cgroup.events has changed, in nanoseconds, as soon as poll(2) says so.
// cause: reads "FILE VALUE" from its input, writes the value and tells when it began, a while later so as not to disturb.
#include "clock.h"
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

static int frozen(int fd) {
  char text[4096];
  ssize_t length = pread(fd, text, sizeof text - 1, 0);
  if (length < 0) return -1;
  text[length] = 0;
  char *line = strstr(text, "frozen ");
  return line ? line[7] : -1;
}

static int watch(const char *path) {
  int fd = open(path, O_RDONLY | O_CLOEXEC), before = frozen(fd);
  for (;;) {
    struct pollfd poller = {.fd = fd, .events = POLLPRI};
    if (poll(&poller, 1, -1) < 0) return 1;
    int state = frozen(fd);
    if (state < 0) return 0;
    if (state != before) answer(now());
    before = state;
  }
}

static int cause(void) {
  char path[4096], value[16];
  while (scanf("%4095s %15s", path, value) == 2) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    long long start = now();
    if (write(fd, value, strlen(value)) < 0) return 1;
    close(fd);
    usleep(5000);
    answer(start);
  }
  return 0;
}

int main(int count, char **arguments) {
  return count > 2 && strcmp(arguments[1], "watch") == 0 ? watch(arguments[2]) : cause();
}
