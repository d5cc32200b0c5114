/* <sys/socket.h>: making and naming sockets, and reading and writing where preview 1 does not serve them. */
#include <sys/socket.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/un.h>
#include <unistd.h>

#include "address.h"
#include "internal.h"

int socket(int domain, int type, int protocol) {
  int32_t fd;
  return result(abi_socket(domain, type, protocol, &fd)) == 0 ? (int)fd : -1;
}

int socketpair(int domain, int type, int protocol, int fds[2]) {
  int32_t first, second;
  if (domain != AF_UNIX) {
    errno = EOPNOTSUPP;
    return -1;
  }
  if (protocol != 0) {
    errno = EPROTONOSUPPORT;
    return -1;
  }
  int kind = type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC);
  int32_t error = abi_socketpair(kind, (type & SOCK_NONBLOCK) != 0, (type & SOCK_CLOEXEC) != 0, &first, &second);
  if (result(error) != 0) return -1;
  fds[0] = first;
  fds[1] = second;
  return 0;
}

int bind(int fd, const struct sockaddr *address, socklen_t len) {
  char text[ADDRESS_TEXT];
  int text_len = __agentvm_address_text(text, address, len);
  return text_len < 0 ? -1 : result(abi_bind(fd, text, (size_t)text_len));
}

int connect(int fd, const struct sockaddr *address, socklen_t len) {
  char text[ADDRESS_TEXT];
  int text_len = __agentvm_address_text(text, address, len);
  return text_len < 0 ? -1 : result(abi_connect(fd, text, (size_t)text_len));
}

int listen(int fd, int backlog) { return result(abi_listen(fd, backlog < 0 ? 0 : backlog)); }

int getsockname(int fd, struct sockaddr *restrict address, socklen_t *restrict len) {
  char text[ADDRESS_TEXT];
  size_t text_len = sizeof text;
  if (result(abi_getsockname(fd, text, &text_len)) != 0) return -1;
  __agentvm_address(text, text_len, address, len);
  return 0;
}

int getpeername(int fd, struct sockaddr *restrict address, socklen_t *restrict len) {
  char text[ADDRESS_TEXT];
  size_t text_len = sizeof text;
  if (result(abi_getpeername(fd, text, &text_len)) != 0) return -1;
  __agentvm_address(text, text_len, address, len);
  return 0;
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t len) {
  return result(abi_setsockopt(fd, level, name, value, len));
}

int sockatmark(int fd) { return result(abi_validate_socket(fd)) == 0 ? 0 : -1; }

intptr_t __agentvm_socket_read(int fd, void *data, size_t len) { return recv(fd, data, len, 0); }
intptr_t __agentvm_socket_write(int fd, const void *data, size_t len) { return send(fd, data, len, 0); }
int __agentvm_socket_close(int fd) { return abi_close(fd); }
