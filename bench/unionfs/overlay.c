// Mounts of an overlay by mount(2), whose one page of options holds many layers only where their names are short: FOLDER LAYERS ROUNDS.
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

int main(int argc, char **argv) {
  if (argc != 4 || chdir(argv[1]) || unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) {
    perror("overlay");
    return 1;
  }
  int layers = atoi(argv[2]), rounds = atoi(argv[3]);
  static char options[4096];
  for (int round = 0; round < rounds; round++) {
    double start = now();
    size_t length = sprintf(options, "upperdir=upper,workdir=work,redirect_dir=off,index=off,metacopy=off,lowerdir=");
    for (int i = 0; i < layers; i++) length += snprintf(options + length, sizeof options - length, i ? ":%d" : "%d", i);
    if (length >= sizeof options || mount("overlay", "merged", "overlay", 0, options)) {
      perror("mount");
      return 1;
    }
    printf("%.6f\n", now() - start);
    if (umount2("merged", MNT_DETACH)) {
      perror("umount2");
      return 1;
    }
  }
  return 0;
}
