/* Preopened directories and the current directory.

   The host offers its directories as tagged descriptors (0x40000003 and up): entry 0 is the directory that the process
   started in, entry 1 is "/". wasi-libc looks at 3, 4, ... instead, finds none, and would take an inherited pipe for a
   directory. This file therefore takes the place of the whole of its preopens.c, chdir.c and getcwd.c. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wasi/api.h>
#include <wasi/libc-find-relpath.h>
#include <wasi/libc.h>

#include "internal.h"

struct preopen {
  char *prefix; /* without a leading slash */
  size_t len;
  int fd;
};

static struct preopen *preopens;
static size_t count, capacity;
static int populated, root = -1;
static char *first_name; /* the name of entry 0 */

char *__wasilibc_cwd; /* NULL until it is asked for */
int __agentvm_moved; /* whether that is another directory than entry 0, which the host takes for the current one */

static int add(int fd, const char *name) {
  while (*name == '/') name++;
  if (count == capacity) {
    size_t wanted = capacity ? capacity * 2 : 4;
    struct preopen *bigger = realloc(preopens, wanted * sizeof *bigger);
    if (!bigger) return -1;
    preopens = bigger;
    capacity = wanted;
  }
  char *prefix = strdup(name);
  if (!prefix) return -1;
  preopens[count++] = (struct preopen){prefix, strlen(prefix), fd};
  if (!*prefix && root < 0) root = fd;
  return 0;
}

OVERRIDE void __wasilibc_populate_preopens(void) {
  if (populated) return;
  populated = 1;
  for (uint32_t fd = ROOT_TAG + 3;; fd++) {
    __wasi_prestat_t prestat;
    if (__wasi_fd_prestat_get(fd, &prestat) != 0 || prestat.tag != __WASI_PREOPENTYPE_DIR) return;
    size_t len = prestat.u.dir.pr_name_len;
    char *name = malloc(len + 1);
    if (!name || __wasi_fd_prestat_dir_name(fd, (uint8_t *)name, len) != 0) return;
    name[len] = '\0';
    if (add((int)fd, name) != 0) return;
    if (fd == ROOT_TAG + 3) first_name = name;
    else free(name);
  }
}

OVERRIDE int __wasilibc_register_preopened_fd(int fd, const char *prefix) {
  __wasilibc_populate_preopens();
  return add(fd, prefix);
}

OVERRIDE void __wasilibc_reset_preopens(void) {
  while (count) free(preopens[--count].prefix);
  populated = 0;
  root = -1;
}

static int matches(const struct preopen *entry, const char *path) {
  return strncmp(path, entry->prefix, entry->len) == 0 && (path[entry->len] == '/' || path[entry->len] == '\0');
}

/* "/" is preferred to a longer prefix: below it, ".." can name everything that it can name on Linux. */
OVERRIDE int __wasilibc_find_abspath(const char *path, const char **prefix, const char **relative) {
  __wasilibc_populate_preopens();
  while (*path == '/') path++;
  int fd = root;
  size_t best = 0;
  *prefix = "";
  for (size_t i = 0; root < 0 && i < count; i++) {
    if (!matches(&preopens[i], path) || (fd >= 0 && preopens[i].len < best)) continue;
    fd = preopens[i].fd;
    best = preopens[i].len;
    *prefix = preopens[i].prefix;
  }
  if (fd < 0) {
    errno = ENOENT;
    return -1;
  }
  path += best;
  while (*path == '/') path++;
  while (fd == root && strncmp(path, "..", 2) == 0 && (path[2] == '/' || path[2] == '\0')) { /* "/.." is "/" */
    path += 2;
    while (*path == '/') path++;
  }
  *relative = *path ? path : ".";
  return fd;
}

/* Without stat, whose host calls every program that starts another would import. */
static int is_directory(const char *absolute) {
  const char *prefix, *relative;
  __wasi_filestat_t status;
  if (*absolute != '/') return 0;
  int fd = __wasilibc_find_abspath(absolute, &prefix, &relative);
  if (fd == -1) return 0;
  if (__wasi_path_filestat_get((__wasi_fd_t)fd, __WASI_LOOKUPFLAGS_SYMLINK_FOLLOW, relative, &status) != 0) return 0;
  return status.filetype == __WASI_FILETYPE_DIRECTORY;
}

/* PWD wins over entry 0 where both are directories: exec can hand over a current directory in no other way. */
const char *__agentvm_cwd(void) {
  if (__wasilibc_cwd) return __wasilibc_cwd;
  __wasilibc_populate_preopens();
  int saved = errno;
  const char *pwd = getenv("PWD");
  const char *entry = first_name ? first_name : "/";
  if (pwd && strcmp(pwd, entry) != 0 && is_directory(pwd)) {
    char *real = realpath(pwd, NULL);
    __wasilibc_cwd = real ? real : strdup(pwd);
    __agentvm_moved = 1;
  } else {
    __wasilibc_cwd = strdup(*entry == '/' ? entry : "/");
  }
  errno = saved;
  return __wasilibc_cwd ? __wasilibc_cwd : "/";
}

int __agentvm_absolute(char *text, size_t cap, const char *path) {
  if (!*path) {
    errno = ENOENT;
    return -1;
  }
  const char *base = *path == '/' ? "" : __agentvm_cwd();
  size_t base_len = strlen(base), len = strlen(path);
  int slash = base_len && base[base_len - 1] != '/';
  if (base_len + (size_t)slash + len >= cap) {
    errno = ENAMETOOLONG;
    return -1;
  }
  memcpy(text, base, base_len);
  if (slash) text[base_len] = '/';
  memcpy(text + base_len + slash, path, len + 1);
  return 0;
}

int __agentvm_place(struct place *place, int dirfd, const char *path) {
  const char *prefix;
  if (!path) {
    errno = EFAULT;
    return -1;
  }
  if (dirfd != AT_FDCWD && *path != '/') {
    if (!*path) {
      errno = ENOENT;
      return -1;
    }
    place->dirfd = dirfd;
    place->path = path;
  } else {
    if (__agentvm_absolute(place->text, sizeof place->text, path) != 0) return -1;
    place->dirfd = __wasilibc_find_abspath(place->text, &prefix, &place->path);
    if (place->dirfd == -1) return -1;
  }
  place->len = strlen(place->path);
  return 0;
}

/* For the parts of wasi-libc that resolve a path themselves. */
OVERRIDE int __wasilibc_find_relpath_alloc(const char *path, const char **prefix, char **relative, size_t *size, int grow) {
  struct place place;
  *prefix = "";
  if (__agentvm_place(&place, AT_FDCWD, path) != 0) return -1;
  if (place.len + 1 > *size) {
    char *bigger = grow ? realloc(*relative, place.len + 1) : NULL;
    if (!bigger) {
      errno = grow ? ENOMEM : ERANGE;
      return -1;
    }
    *relative = bigger;
    *size = place.len + 1;
  }
  memcpy(*relative, place.path, place.len + 1);
  return place.dirfd;
}

OVERRIDE int __wasilibc_find_relpath(const char *path, const char **prefix, char **relative, size_t size) {
  return __wasilibc_find_relpath_alloc(path, prefix, relative, &size, 0);
}

OVERRIDE char *getcwd(char *buffer, size_t size) {
  const char *cwd = __agentvm_cwd();
  size_t len = strlen(cwd) + 1;
  if (!buffer) {
    buffer = malloc(size > len ? size : len);
    if (!buffer) return NULL;
  } else if (size == 0) {
    errno = EINVAL;
    return NULL;
  } else if (size < len) {
    errno = ERANGE;
    return NULL;
  }
  return memcpy(buffer, cwd, len);
}

char *get_current_dir_name(void) { return getcwd(NULL, 0); }

/* The host has no chdir: the current directory lives here and goes to a child with posix_spawn or exec. */
OVERRIDE int chdir(const char *path) {
  struct stat status;
  if (stat(path, &status) != 0) return -1;
  if (!S_ISDIR(status.st_mode)) {
    errno = ENOTDIR;
    return -1;
  }
  if (access(path, X_OK) != 0) return -1;
  char *real = realpath(path, NULL);
  if (!real) return -1;
  free(__wasilibc_cwd);
  __wasilibc_cwd = real;
  __agentvm_moved = 1;
  return 0;
}
