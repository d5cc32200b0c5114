/* <fcntl.h> fcntl and lockf, <sys/file.h> flock. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/file.h>
#include <unistd.h>
#include <wasi/api.h>

#include "internal.h"

static int get_flags(int fd) {
  __wasi_fdstat_t status;
  if (result(__wasi_fd_fdstat_get((__wasi_fd_t)fd, &status)) != 0) return -1;
  int reads = (status.fs_rights_base & (__WASI_RIGHTS_FD_READ | __WASI_RIGHTS_FD_READDIR)) != 0;
  int writes = (status.fs_rights_base & __WASI_RIGHTS_FD_WRITE) != 0;
  return status.fs_flags | (reads && writes ? O_RDWR : writes ? O_WRONLY : reads ? O_RDONLY : O_SEARCH);
}

static int duplicate(int fd, int minimum, int cloexec) {
  int32_t copy;
  if (minimum < 0) {
    errno = EINVAL;
    return -1;
  }
  if (result(abi_dup_min(fd, minimum, &copy)) != 0) return -1;
  if (cloexec && result(abi_setfd(copy, FD_CLOEXEC)) != 0) {
    close(copy);
    return -1;
  }
  return copy;
}

/* Not fstat, whose host calls would be in every program that calls fcntl. */
static off_t size_of(int fd) {
  __wasi_filestat_t status;
  return result(__wasi_fd_filestat_get((__wasi_fd_t)fd, &status)) == 0 ? (off_t)status.size : -1;
}

/* The host counts from the start of the file. */
static int absolute_start(int fd, const struct flock *lock, int64_t *start) {
  off_t base = 0;
  if (lock->l_whence == SEEK_CUR) base = lseek(fd, (off_t)0, (int)SEEK_CUR);
  else if (lock->l_whence == SEEK_END) base = size_of(fd);
  else if (lock->l_whence != SEEK_SET) {
    errno = EINVAL;
    return -1;
  }
  if (base < 0) return -1;
  *start = base + lock->l_start;
  if (*start >= 0) return 0;
  errno = EINVAL;
  return -1;
}

static int record_lock(int fd, int command, struct flock *lock) {
  int64_t start, len = lock->l_len;
  int32_t type = F_UNLCK, pid = 0;
  uint64_t found_start = 0, found_len = 0;
  if (absolute_start(fd, lock, &start) != 0) return -1;
  if (len < 0) { /* POSIX: the area that ends before the start */
    start += len;
    len = -len;
    if (start < 0) {
      errno = EINVAL;
      return -1;
    }
  }
  if (result(abi_record_lock(fd, command, lock->l_type, start, len, &type, &pid, &found_start, &found_len)) != 0)
    return -1;
  if (command != F_GETLK) return 0;
  lock->l_type = (short)type;
  if (type == F_UNLCK) return 0;
  lock->l_whence = SEEK_SET;
  lock->l_start = (off_t)found_start;
  lock->l_len = (off_t)found_len;
  lock->l_pid = pid;
  return 0;
}

OVERRIDE int fcntl(int fd, int command, ...) {
  va_list arguments;
  int32_t flags;
  va_start(arguments, command);
  uintptr_t argument = command == F_GETFD || command == F_GETFL ? 0 : va_arg(arguments, uintptr_t);
  va_end(arguments);
  switch (command) {
    case F_DUPFD:
    case F_DUPFD_CLOEXEC:
      return duplicate(fd, (int)argument, command == F_DUPFD_CLOEXEC);
    case F_GETFD:
      return result(abi_getfd(fd, &flags)) == 0 ? (int)flags : -1;
    case F_SETFD:
      return result(abi_setfd(fd, (int32_t)argument & FD_CLOEXEC));
    case F_GETFL:
      return get_flags(fd);
    case F_SETFL:
      return result(__wasi_fd_fdstat_set_flags((__wasi_fd_t)fd, (__wasi_fdflags_t)(argument & 0xfff)));
    case F_GETLK:
    case F_SETLK:
    case F_SETLKW:
      return record_lock(fd, command, (struct flock *)argument);
    default:
      errno = EINVAL;
      return -1;
  }
}

/* Advice may be ignored, and the host has no call to take it. */
OVERRIDE int posix_fadvise(int fd, off_t offset, off_t len, int advice) {
  __wasi_fdstat_t status;
  (void)offset;
  int32_t error = __wasi_fd_fdstat_get((__wasi_fd_t)fd, &status);
  if (error != 0) return error;
  return len < 0 || advice < POSIX_FADV_NORMAL || advice > POSIX_FADV_NOREUSE ? EINVAL : 0;
}

int flock(int fd, int operation) { return result(abi_flock(fd, operation)); }

int lockf(int fd, int function, off_t size) {
  struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_CUR, .l_start = 0, .l_len = size};
  int32_t self;
  switch (function) {
    case F_ULOCK:
      lock.l_type = F_UNLCK;
      return fcntl(fd, F_SETLK, &lock);
    case F_LOCK:
      return fcntl(fd, F_SETLKW, &lock);
    case F_TLOCK:
      return fcntl(fd, F_SETLK, &lock);
    case F_TEST:
      if (fcntl(fd, F_GETLK, &lock) != 0) return -1;
      if (lock.l_type == F_UNLCK || (abi_getpid(&self) == 0 && lock.l_pid == self)) return 0;
      errno = EACCES;
      return -1;
    default:
      errno = EINVAL;
      return -1;
  }
}
