// Makes a group, limits it and removes it: its arguments are directories (DIRECTORY/) and what is written then (FILE=VALUE).
// Reads a count from its input and answers with the nanoseconds that each round took.
#include "clock.h"
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void must(int ok, const char *what) {
  if (ok) return;
  perror(what);
  exit(1);
}

static void put(const char *entry) {
  const char *equals = strchr(entry, '=');
  char path[4096];
  snprintf(path, sizeof path, "%.*s", (int)(equals - entry), entry);
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  must(fd >= 0 && write(fd, equals + 1, strlen(equals + 1)) > 0, entry);
  close(fd);
}

int main(int count, char **arguments) {
  int rounds;
  while (scanf("%d", &rounds) == 1) {
    long long start = now();
    for (int round = 0; round < rounds; round++) {
      for (int i = 1; i < count; i++) {
        if (!strchr(arguments[i], '=')) must(mkdir(arguments[i], 0755) == 0, arguments[i]);
        else put(arguments[i]);
      }
      for (int i = count - 1; i > 0; i--)
        if (!strchr(arguments[i], '=')) must(rmdir(arguments[i]) == 0, arguments[i]);
    }
    answer((now() - start) / rounds);
  }
  return 0;
}
