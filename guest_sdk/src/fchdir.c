/* <unistd.h> fchdir. The current directory is a path, and a descriptor has none: it is found by going up to "/". */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal.h"

static int same(const struct stat *a, const struct stat *b) { return a->st_dev == b->st_dev && a->st_ino == b->st_ino; }

/* The name of `child` in the directory that `parent` is open on, in front of `text`; its new start, or NULL. */
static char *put_name(char *text, const char *start, int parent, const struct stat *child) {
  struct stat status;
  const struct dirent *entry;
  char *found = NULL;
  int copy = openat(parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *directory = copy < 0 ? NULL : fdopendir(copy);
  while (directory && !found && (entry = readdir(directory))) {
    size_t len = strlen(entry->d_name);
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    if (fstatat(parent, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0 || !same(&status, child)) continue;
    if (len + 1 > (size_t)(text - start)) break;
    found = text - len;
    memcpy(found, entry->d_name, len);
    *--found = '/';
  }
  if (directory) closedir(directory);
  else if (copy >= 0) close(copy);
  return found;
}

/* A host may refuse to lead from a directory to "/" itself. */
static int open_parent(int fd) {
  int parent = openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  return parent >= 0 ? parent : open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

int fchdir(int fd) {
  char path[PATH_MAX], *at = path + sizeof path - 1;
  struct stat root, child;
  if (fstat(fd, &child) != 0 || stat("/", &root) != 0) return -1;
  if (!S_ISDIR(child.st_mode)) {
    errno = ENOTDIR;
    return -1;
  }
  *at = '\0';
  int here = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  while (here >= 0 && at && !same(&child, &root)) {
    int parent = open_parent(here);
    close(here);
    here = parent;
    if (parent < 0) break;
    at = put_name(at, path, parent, &child);
    if (fstat(parent, &child) != 0) at = NULL;
  }
  if (here < 0) return -1;
  close(here);
  if (at) return chdir(*at ? at : "/");
  errno = ENOENT; /* removed, or in a directory that cannot be read */
  return -1;
}
