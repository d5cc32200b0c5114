/* Opening files: modes, O_CLOEXEC, access, and the calls that take a path (wasi-libc's posix.c and at_fdcwd.c). */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utime.h>
#include <wasi/api.h>
#include <wasi/libc-nocwd.h>
#include <wasi/libc.h>

#include "internal.h"

#define READ_RIGHTS (__WASI_RIGHTS_FD_READ | __WASI_RIGHTS_FD_READDIR)
#define WRITE_RIGHTS \
  (__WASI_RIGHTS_FD_DATASYNC | __WASI_RIGHTS_FD_WRITE | __WASI_RIGHTS_FD_ALLOCATE | __WASI_RIGHTS_FD_FILESTAT_SET_SIZE)

static int open_at(int dirfd, const char *path, int flags, mode_t mode) {
  struct place place;
  __wasi_rights_t rights = ~(__wasi_rights_t)(READ_RIGHTS | WRITE_RIGHTS);
  __wasi_fd_t fd;
  if ((flags & O_ACCMODE) == 0) {
    errno = EINVAL;
    return -1;
  }
  if (flags & O_RDONLY & O_ACCMODE) rights |= READ_RIGHTS;
  if (flags & O_WRONLY & O_ACCMODE) rights |= WRITE_RIGHTS;
  if (__agentvm_place(&place, dirfd, path) != 0) return -1;
  if (flags & O_CREAT && result(abi_set_open_mode(mode & 07777)) != 0) return -1;
  uint32_t follow = flags & O_NOFOLLOW ? 0 : __WASI_LOOKUPFLAGS_SYMLINK_FOLLOW;
  if (result(__wasi_path_open((__wasi_fd_t)place.dirfd, follow, place.path, (flags >> 12) & 0xfff, rights,
                              ~(__wasi_rights_t)0, (__wasi_fdflags_t)(flags & 0xfff), &fd)) != 0)
    return -1;
  if (flags & O_CREAT && flags & O_EXCL && (mode & 07777) == 0) /* to the host, mode 0 means the default */
    (void)!abi_fchmod((int32_t)fd, 0);
  if (flags & O_CLOEXEC && result(abi_setfd((int32_t)fd, FD_CLOEXEC)) != 0) {
    close((int)fd);
    return -1;
  }
  return (int)fd;
}

static mode_t mode_argument(int flags, va_list arguments) {
  return flags & O_CREAT ? (mode_t)va_arg(arguments, int) : 0;
}

OVERRIDE int open(const char *path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  mode_t mode = mode_argument(flags, arguments);
  va_end(arguments);
  return open_at(AT_FDCWD, path, flags, mode);
}

OVERRIDE int openat(int dirfd, const char *path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  mode_t mode = mode_argument(flags, arguments);
  va_end(arguments);
  return open_at(dirfd, path, flags, mode);
}

OVERRIDE int creat(const char *path, mode_t mode) { return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

/* What fopen calls. */
OVERRIDE int __wasilibc_open_nomode(const char *path, int flags) { return open_at(AT_FDCWD, path, flags, 0666); }

OVERRIDE int __wasilibc_nocwd_openat_nomode(int dirfd, const char *path, int flags) {
  return open_at(dirfd, path, flags, 0666);
}

/* fopen's "e" is worth something now that O_CLOEXEC is not 0. */
OVERRIDE int __fmodeflags(const char *mode) {
  int flags = strchr(mode, '+') ? O_RDWR : *mode == 'r' ? O_RDONLY : O_WRONLY;
  if (strchr(mode, 'x')) flags |= O_EXCL;
  if (strchr(mode, 'e')) flags |= O_CLOEXEC;
  if (*mode != 'r') flags |= O_CREAT;
  if (*mode == 'w') flags |= O_TRUNC;
  if (*mode == 'a') flags |= O_APPEND;
  return flags;
}

OVERRIDE int faccessat(int dirfd, const char *path, int mode, int flags) {
  struct place place;
  if (mode & ~(R_OK | W_OK | X_OK) || flags & ~AT_EACCESS) {
    errno = EINVAL;
    return -1;
  }
  if (__agentvm_place(&place, dirfd, path) != 0) return -1;
  /* The host's bits are those of Linux: 4 read, 2 write, 1 execute. */
  int wanted = (mode & R_OK ? 4 : 0) | (mode & W_OK ? 2 : 0) | (mode & X_OK ? 1 : 0);
  return result(abi_access(place.dirfd, place.path, place.len, wanted, (flags & AT_EACCESS) != 0));
}

OVERRIDE int access(const char *path, int mode) { return faccessat(AT_FDCWD, path, mode, 0); }
int eaccess(const char *path, int mode) { return faccessat(AT_FDCWD, path, mode, AT_EACCESS); }
int euidaccess(const char *path, int mode) { return faccessat(AT_FDCWD, path, mode, AT_EACCESS); }

OVERRIDE int __wasilibc_access(const char *path, int mode, int flags) { return faccessat(AT_FDCWD, path, mode, flags); }

OVERRIDE ssize_t readlinkat(int dirfd, const char *restrict path, char *restrict text, size_t cap) {
  struct place place;
  if (__agentvm_place(&place, dirfd, path) != 0) return -1;
  return __wasilibc_nocwd_readlinkat(place.dirfd, place.path, text, cap);
}

OVERRIDE ssize_t readlink(const char *restrict path, char *restrict text, size_t cap) {
  return readlinkat(AT_FDCWD, path, text, cap);
}

OVERRIDE int symlinkat(const char *target, int dirfd, const char *path) {
  struct place place;
  if (__agentvm_place(&place, dirfd, path) != 0) return -1;
  return __wasilibc_nocwd_symlinkat(target, place.dirfd, place.path);
}

OVERRIDE int symlink(const char *target, const char *path) { return symlinkat(target, AT_FDCWD, path); }

OVERRIDE int linkat(int old_dirfd, const char *old_path, int new_dirfd, const char *new_path, int flags) {
  struct place from, to;
  if (__agentvm_place(&from, old_dirfd, old_path) != 0 || __agentvm_place(&to, new_dirfd, new_path) != 0) return -1;
  return __wasilibc_nocwd_linkat(from.dirfd, from.path, to.dirfd, to.path, flags);
}

OVERRIDE int link(const char *old_path, const char *new_path) {
  return linkat(AT_FDCWD, old_path, AT_FDCWD, new_path, 0);
}

OVERRIDE int __wasilibc_link(const char *old_path, const char *new_path, int flags) {
  return linkat(AT_FDCWD, old_path, AT_FDCWD, new_path, flags);
}

OVERRIDE int __wasilibc_link_oldat(int dirfd, const char *old_path, const char *new_path, int flags) {
  return linkat(dirfd, old_path, AT_FDCWD, new_path, flags);
}

OVERRIDE int __wasilibc_link_newat(const char *old_path, int dirfd, const char *new_path, int flags) {
  return linkat(AT_FDCWD, old_path, dirfd, new_path, flags);
}

OVERRIDE int renameat(int old_dirfd, const char *old_path, int new_dirfd, const char *new_path) {
  struct place from, to;
  if (__agentvm_place(&from, old_dirfd, old_path) != 0 || __agentvm_place(&to, new_dirfd, new_path) != 0) return -1;
  return __wasilibc_nocwd_renameat(from.dirfd, from.path, to.dirfd, to.path);
}

OVERRIDE int rename(const char *old_path, const char *new_path) {
  return renameat(AT_FDCWD, old_path, AT_FDCWD, new_path);
}

OVERRIDE int __wasilibc_rename_oldat(int dirfd, const char *old_path, const char *new_path) {
  return renameat(dirfd, old_path, AT_FDCWD, new_path);
}

OVERRIDE int __wasilibc_rename_newat(const char *old_path, int dirfd, const char *new_path) {
  return renameat(AT_FDCWD, old_path, dirfd, new_path);
}

OVERRIDE int __wasilibc_unlinkat(int dirfd, const char *path) {
  struct place place;
  if (__agentvm_place(&place, dirfd, path) != 0) return -1;
  return result(__wasi_path_unlink_file((__wasi_fd_t)place.dirfd, place.path));
}

OVERRIDE int __wasilibc_rmdirat(int dirfd, const char *path) {
  struct place place;
  if (__agentvm_place(&place, dirfd, path) != 0) return -1;
  return result(__wasi_path_remove_directory((__wasi_fd_t)place.dirfd, place.path));
}

OVERRIDE int unlinkat(int dirfd, const char *path, int flags) {
  return flags & AT_REMOVEDIR ? __wasilibc_rmdirat(dirfd, path) : __wasilibc_unlinkat(dirfd, path);
}

OVERRIDE int unlink(const char *path) { return __wasilibc_unlinkat(AT_FDCWD, path); }
OVERRIDE int rmdir(const char *path) { return __wasilibc_rmdirat(AT_FDCWD, path); }

OVERRIDE int truncate(const char *path, off_t length) {
  struct stat status;
  if (stat(path, &status) != 0) return -1;
  if (!S_ISREG(status.st_mode)) { /* opening a FIFO would wait for who reads it */
    errno = S_ISDIR(status.st_mode) ? EISDIR : EINVAL;
    return -1;
  }
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  int done = ftruncate(fd, length), error = errno;
  close(fd);
  errno = error;
  return done;
}

OVERRIDE int remove(const char *path) {
  if (unlink(path) == 0) return 0;
  return errno == EISDIR || errno == EPERM ? rmdir(path) : -1;
}

OVERRIDE DIR *opendirat(int dirfd, const char *path) {
  struct place place;
  if (__agentvm_place(&place, dirfd, path) != 0) return NULL;
  return __wasilibc_nocwd_opendirat(place.dirfd, place.path);
}

OVERRIDE DIR *opendir(const char *path) { return opendirat(AT_FDCWD, path); }

OVERRIDE int scandirat(int dirfd, const char *restrict path, struct dirent ***restrict names,
                       int (*filter)(const struct dirent *),
                       int (*compare)(const struct dirent **, const struct dirent **)) {
  struct place place;
  if (__agentvm_place(&place, dirfd, path) != 0) return -1;
  return __wasilibc_nocwd_scandirat(place.dirfd, place.path, names, filter, compare);
}

OVERRIDE int scandir(const char *restrict path, struct dirent ***restrict names, int (*filter)(const struct dirent *),
                     int (*compare)(const struct dirent **, const struct dirent **)) {
  return scandirat(AT_FDCWD, path, names, filter, compare);
}

OVERRIDE int utimensat(int dirfd, const char *path, const struct timespec times[2], int flags) {
  struct place place;
  if (__agentvm_place(&place, dirfd, path) != 0) return -1;
  return __wasilibc_nocwd_utimensat(place.dirfd, place.path, times, flags);
}

OVERRIDE int __wasilibc_utimens(const char *path, const struct timespec times[2], int flags) {
  return utimensat(AT_FDCWD, path, times, flags);
}

OVERRIDE int utime(const char *path, const struct utimbuf *times) {
  struct timespec both[2] = {{0}, {0}};
  if (times) {
    both[0].tv_sec = times->actime;
    both[1].tv_sec = times->modtime;
  }
  return utimensat(AT_FDCWD, path, times ? both : NULL, 0);
}

OVERRIDE int utimes(const char *path, const struct timeval times[2]) {
  struct timespec both[2] = {{0}, {0}};
  for (int i = 0; times && i < 2; i++) {
    both[i].tv_sec = times[i].tv_sec;
    both[i].tv_nsec = times[i].tv_usec * 1000;
  }
  return utimensat(AT_FDCWD, path, times ? both : NULL, 0);
}
