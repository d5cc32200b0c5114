/* <sys/socket.h>: the calls that wasi-libc has in a weaker form, and sendto and recvfrom. */
#include <sys/socket.h>

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include <wasi/api.h>

#include "address.h"
#include "internal.h"

OVERRIDE int accept4(int fd, struct sockaddr *restrict address, socklen_t *restrict len, int flags) {
  char text[ADDRESS_TEXT];
  size_t text_len = sizeof text;
  int32_t accepted, error = 0;
  if (flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) {
    errno = EINVAL;
    return -1;
  }
  if (result(abi_accept(fd, &accepted, text, &text_len)) != 0) return -1;
  if (flags & SOCK_CLOEXEC) error = abi_setfd(accepted, FD_CLOEXEC);
  if (error == 0 && flags & SOCK_NONBLOCK)
    error = __wasi_fd_fdstat_set_flags((__wasi_fd_t)accepted, __WASI_FDFLAGS_NONBLOCK);
  if (result(error) != 0) {
    close(accepted);
    return -1;
  }
  __agentvm_address(text, text_len, address, len);
  return accepted;
}

OVERRIDE int accept(int fd, struct sockaddr *restrict address, socklen_t *restrict len) {
  return accept4(fd, address, len, 0);
}

OVERRIDE ssize_t send(int fd, const void *data, size_t len, int flags) {
  size_t sent;
  return result(abi_send(fd, data, len, flags, &sent)) == 0 ? (ssize_t)sent : -1;
}

OVERRIDE ssize_t recv(int fd, void *data, size_t len, int flags) {
  size_t got;
  return result(abi_recv(fd, data, len, flags, &got)) == 0 ? (ssize_t)got : -1;
}

ssize_t sendto(int fd, const void *data, size_t len, int flags, const struct sockaddr *address, socklen_t address_len) {
  char text[ADDRESS_TEXT];
  size_t sent;
  if (!address || address_len == 0) return send(fd, data, len, flags);
  int text_len = __agentvm_address_text(text, address, address_len);
  if (text_len < 0) return -1;
  return result(abi_sendto(fd, data, len, flags, text, (size_t)text_len, &sent)) == 0 ? (ssize_t)sent : -1;
}

ssize_t recvfrom(int fd, void *restrict data, size_t len, int flags, struct sockaddr *restrict address,
                 socklen_t *restrict address_len) {
  char text[ADDRESS_TEXT];
  size_t got, text_len = sizeof text;
  if (!address) return recv(fd, data, len, flags);
  if (result(abi_recvfrom(fd, data, len, flags, &got, text, &text_len)) != 0) return -1;
  __agentvm_address(text, text_len, address, address_len);
  return (ssize_t)got;
}

OVERRIDE int getsockopt(int fd, int level, int name, void *restrict value, socklen_t *restrict len) {
  size_t size = *len;
  if (result(abi_getsockopt(fd, level, name, value, &size)) != 0) return -1;
  *len = (socklen_t)size;
  if (name == SO_TYPE && (level == SOL_SOCKET || level == 1) && size >= sizeof(int)) { /* POSIX numbers, if they are */
    if (*(int *)value == 1) *(int *)value = SOCK_STREAM;
    if (*(int *)value == 2) *(int *)value = SOCK_DGRAM;
  }
  return 0;
}

OVERRIDE int shutdown(int fd, int how) { return result(__wasi_sock_shutdown((__wasi_fd_t)fd, (__wasi_sdflags_t)how)); }
