/* <stdlib.h> and <stdio.h> temporary files. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal.h"

#define ATTEMPTS 100

static int fill(char *pattern, size_t suffix) {
  static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
  size_t len = strlen(pattern);
  unsigned char random[6];
  if (len < suffix + 6 || memcmp(pattern + len - suffix - 6, "XXXXXX", 6) != 0) {
    errno = EINVAL;
    return -1;
  }
  if (getentropy(random, sizeof random) != 0) return -1;
  for (int i = 0; i < 6; i++) pattern[len - suffix - 6 + (size_t)i] = letters[random[i] % (sizeof letters - 1)];
  return 0;
}

static void reset(char *pattern, size_t suffix) { memset(pattern + strlen(pattern) - suffix - 6, 'X', 6); }

int mkostemps(char *pattern, int suffix, int flags) {
  for (int i = 0; i < ATTEMPTS; i++) {
    if (suffix < 0 || fill(pattern, (size_t)suffix) != 0) break;
    int fd = open(pattern, (flags & ~O_ACCMODE) | O_RDWR | O_CREAT | O_EXCL, 0600);
    if (fd >= 0) return fd;
    reset(pattern, (size_t)suffix);
    if (errno != EEXIST) return -1;
  }
  if (suffix < 0) errno = EINVAL;
  return -1;
}

int mkostemp(char *pattern, int flags) { return mkostemps(pattern, 0, flags); }
int mkstemps(char *pattern, int suffix) { return mkostemps(pattern, suffix, 0); }
int mkstemp(char *pattern) { return mkostemps(pattern, 0, 0); }

char *mkdtemp(char *pattern) {
  for (int i = 0; i < ATTEMPTS; i++) {
    if (fill(pattern, 0) != 0) return NULL;
    if (mkdir(pattern, 0700) == 0) return pattern;
    reset(pattern, 0);
    if (errno != EEXIST) return NULL;
  }
  return NULL;
}

char *mktemp(char *pattern) {
  struct stat status;
  for (int i = 0; i < ATTEMPTS; i++) {
    if (fill(pattern, 0) != 0) break;
    if (lstat(pattern, &status) != 0) {
      if (errno == ENOENT) return pattern;
      break;
    }
    reset(pattern, 0);
  }
  *pattern = '\0';
  return pattern;
}

FILE *tmpfile(void) {
  char name[] = "/tmp/tmpfile.XXXXXX";
  int fd = mkstemp(name);
  if (fd < 0) return NULL;
  unlink(name);
  FILE *file = fdopen(fd, "w+");
  if (!file) close(fd);
  return file;
}

char *tmpnam(char *name) {
  static char own[L_tmpnam];
  char pattern[] = "/tmp/tmpnamXXXXXX";
  if (!*mktemp(pattern)) return NULL;
  return strcpy(name ? name : own, pattern);
}

char *tempnam(const char *directory, const char *prefix) {
  const char *base = directory ? directory : P_tmpdir;
  size_t size = strlen(base) + (prefix ? strlen(prefix) : 0) + sizeof "/XXXXXX";
  char *name = malloc(size);
  if (!name) return NULL;
  snprintf(name, size, "%s/%sXXXXXX", base, prefix ? prefix : "");
  if (*mktemp(name)) return name;
  free(name);
  return NULL;
}

/* There is one thread. */
void flockfile(FILE *file) { (void)file; }
void funlockfile(FILE *file) { (void)file; }
int ftrylockfile(FILE *file) {
  (void)file;
  return 0;
}
