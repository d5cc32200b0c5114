/* <unistd.h> pipe, dup and their like. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include <wasi/api.h>

#include "internal.h"

int dup(int fd) {
  int32_t copy;
  return result(abi_dup(fd, &copy)) == 0 ? (int)copy : -1;
}

int dup2(int fd, int target) {
  int32_t flags;
  if (fd == target) return result(abi_getfd(fd, &flags)) == 0 ? fd : -1; /* only a check: FD_CLOEXEC stays */
  return result(abi_dup2(fd, target)) == 0 ? target : -1;
}

int dup3(int fd, int target, int flags) {
  if (fd == target || flags & ~O_CLOEXEC) {
    errno = EINVAL;
    return -1;
  }
  if (dup2(fd, target) < 0) return -1;
  if (flags & O_CLOEXEC && result(abi_setfd(target, FD_CLOEXEC)) != 0) return -1;
  return target;
}

static int prepare(int fd, int flags) {
  if (flags & O_CLOEXEC && result(abi_setfd(fd, FD_CLOEXEC)) != 0) return -1;
  if (flags & O_NONBLOCK) return result(__wasi_fd_fdstat_set_flags((__wasi_fd_t)fd, __WASI_FDFLAGS_NONBLOCK));
  return 0;
}

int pipe2(int fds[2], int flags) {
  int32_t reader, writer;
  if (flags & ~(O_CLOEXEC | O_NONBLOCK)) {
    errno = EINVAL;
    return -1;
  }
  if (result(abi_pipe(&reader, &writer)) != 0) return -1;
  if (flags && (prepare(reader, flags) != 0 || prepare(writer, flags) != 0)) {
    close(reader);
    close(writer);
    return -1;
  }
  fds[0] = reader;
  fds[1] = writer;
  return 0;
}

int pipe(int fds[2]) { return pipe2(fds, 0); }

void closefrom(int low_fd) { (void)!abi_closefrom(low_fd < 0 ? 0 : low_fd); }

void sync(void) {}
