/* <unistd.h> and <sys/uio.h>: read, write, close.
   They are wasi-libc's calls, plus one thing: where a host serves sockets through host_net only, preview 1 refuses the
   descriptor, and the socket calls (if the program has any) are asked before the error goes to the caller. */
#include <errno.h>
#include <limits.h>
#include <sys/uio.h>
#include <unistd.h>
#include <wasi/api.h>

#include "internal.h"

static int not_for_preview1(int32_t error) {
  return error == __WASI_ERRNO_BADF || error == __WASI_ERRNO_NOTSUP || error == __WASI_ERRNO_NOTSOCK ||
         error == __WASI_ERRNO_INVAL;
}

OVERRIDE ssize_t readv(int fd, const struct iovec *parts, int count) {
  size_t len;
  if (count < 0 || count > IOV_MAX) {
    errno = EINVAL;
    return -1;
  }
  int32_t error = __wasi_fd_read((__wasi_fd_t)fd, (const __wasi_iovec_t *)parts, (size_t)count, &len);
  if (error == 0) return (ssize_t)len;
  if (not_for_preview1(error) && count > 0 && __agentvm_socket_read) {
    ssize_t got = __agentvm_socket_read(fd, parts[0].iov_base, parts[0].iov_len);
    if (got >= 0 || errno != ENOTSOCK) return got;
  }
  return result(error == __WASI_ERRNO_NOTCAPABLE ? __WASI_ERRNO_BADF : error);
}

OVERRIDE ssize_t writev(int fd, const struct iovec *parts, int count) {
  size_t len;
  if (count < 0 || count > IOV_MAX) {
    errno = EINVAL;
    return -1;
  }
  int32_t error = __wasi_fd_write((__wasi_fd_t)fd, (const __wasi_ciovec_t *)parts, (size_t)count, &len);
  if (error == 0) return (ssize_t)len;
  if (not_for_preview1(error) && count > 0 && __agentvm_socket_write) {
    ssize_t sent = __agentvm_socket_write(fd, parts[0].iov_base, parts[0].iov_len);
    if (sent >= 0 || errno != ENOTSOCK) return sent;
  }
  return result(error == __WASI_ERRNO_NOTCAPABLE ? __WASI_ERRNO_BADF : error);
}

OVERRIDE ssize_t read(int fd, void *data, size_t len) {
  struct iovec part = {data, len};
  return readv(fd, &part, 1);
}

OVERRIDE ssize_t write(int fd, const void *data, size_t len) {
  struct iovec part = {(void *)data, len};
  return writev(fd, &part, 1);
}

/* Not weak: the compiler's own library has a weak close that comes first. */
int close(int fd) {
  int32_t error = __wasi_fd_close((__wasi_fd_t)fd);
  if (error == 0) return 0;
  if (not_for_preview1(error) && __agentvm_socket_close && __agentvm_socket_close(fd) == 0) return 0;
  return result(error);
}
