// The floor of the cgroup rows: reads files again and again, with their descriptors open (c) or opened each time (o).
// Reads "MODE COUNT" from its input and answers with the nanoseconds that each round took.
#include "clock.h"
#include <fcntl.h>
#include <unistd.h>

static char text[1 << 18];

int main(int count, char **files) {
  int fds[256], n = count - 1, rounds;
  char mode;
  for (int i = 0; i < n; i++) fds[i] = open(files[i + 1], O_RDONLY | O_CLOEXEC);
  while (scanf(" %c %d", &mode, &rounds) == 2) {
    long long start = now();
    for (int round = 0; round < rounds; round++)
      for (int i = 0; i < n; i++) {
        int fd = mode == 'o' ? open(files[i + 1], O_RDONLY | O_CLOEXEC) : fds[i];
        if (pread(fd, text, sizeof text, 0) < 0) continue;
        if (mode == 'o') close(fd);
      }
    answer((now() - start) / rounds);
  }
  return 0;
}
