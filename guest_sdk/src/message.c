/* <sys/socket.h> sendmsg and recvmsg, with descriptors in SCM_RIGHTS. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "internal.h"

#define MAX_RIGHTS 253 /* as Linux */

static size_t total(const struct msghdr *message) {
  size_t len = 0;
  for (int i = 0; i < message->msg_iovlen; i++) len += message->msg_iov[i].iov_len;
  return len;
}

/* One buffer for the parts: the only part itself, or a copy in *owned, which the caller frees. */
static void *joined(const struct msghdr *message, size_t len, void **owned) {
  *owned = NULL;
  if (message->msg_iovlen == 1) return message->msg_iov[0].iov_base;
  return *owned = malloc(len ? len : 1);
}

static void scatter(const struct msghdr *message, const char *data, size_t len) {
  for (int i = 0; i < message->msg_iovlen && len > 0; i++) {
    size_t part = message->msg_iov[i].iov_len < len ? message->msg_iov[i].iov_len : len;
    memcpy(message->msg_iov[i].iov_base, data, part);
    data += part;
    len -= part;
  }
}

/* The descriptors of all SCM_RIGHTS records: their count, or -1 with errno. */
static int rights_of(const struct msghdr *message, int32_t *rights) {
  struct msghdr *walk = (struct msghdr *)message;
  int count = 0;
  for (struct cmsghdr *each = CMSG_FIRSTHDR(walk); each; each = CMSG_NXTHDR(walk, each)) {
    if (each->cmsg_level != SOL_SOCKET || each->cmsg_type != SCM_RIGHTS || each->cmsg_len < CMSG_LEN(0)) {
      errno = EINVAL;
      return -1;
    }
    int more = (int)((each->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    if (count + more > MAX_RIGHTS) {
      errno = EINVAL;
      return -1;
    }
    memcpy(rights + count, CMSG_DATA(each), (size_t)more * sizeof(int));
    count += more;
  }
  return count;
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
  int32_t rights[MAX_RIGHTS];
  void *owned;
  ssize_t sent = -1;
  size_t written, len = total(message), at = 0;
  int count = message->msg_control ? rights_of(message, rights) : 0;
  if (count < 0) return -1;
  char *data = joined(message, len, &owned);
  if (!data && len) return -1;
  for (int i = 0; owned && i < message->msg_iovlen; at += message->msg_iov[i++].iov_len)
    memcpy(data + at, message->msg_iov[i].iov_base, message->msg_iov[i].iov_len);
  if (count > 0) {
    if (result(abi_sendmsg_rights(fd, data, len, rights, (size_t)count, flags, &written)) == 0) sent = (ssize_t)written;
  } else {
    sent = sendto(fd, data, len, flags, message->msg_name, message->msg_name ? message->msg_namelen : 0);
  }
  free(owned);
  return sent;
}

static void give_rights(struct msghdr *message, const int32_t *rights, size_t count) {
  struct cmsghdr *header = message->msg_control;
  if (count == 0) {
    message->msg_controllen = 0;
    return;
  }
  *header = (struct cmsghdr){CMSG_LEN(count * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
  memcpy(CMSG_DATA(header), rights, count * sizeof(int));
  message->msg_controllen = CMSG_SPACE(count * sizeof(int));
}

static int32_t receive_rights(int fd, struct msghdr *message, void *data, size_t len, int flags, ssize_t *got) {
  int32_t rights[MAX_RIGHTS];
  size_t control = message->msg_control ? message->msg_controllen : 0;
  size_t received, count, room = control > CMSG_LEN(0) ? (control - CMSG_LEN(0)) / sizeof(int) : 0;
  uint32_t told;
  if (room > MAX_RIGHTS) room = MAX_RIGHTS;
  int32_t error = abi_recvmsg_rights(fd, data, len, rights, room, flags, &received, &count, &told);
  if (error != 0) return error;
  message->msg_namelen = 0;
  message->msg_flags = (told & 1 ? MSG_TRUNC : 0) | (told & 2 ? MSG_CTRUNC : 0);
  give_rights(message, rights, count);
  scatter(message, data, message->msg_iovlen == 1 ? 0 : received);
  *got = (ssize_t)(flags & MSG_TRUNC ? told >> 2 : received);
  return 0;
}

/* On a stream, MSG_TRUNC would throw the data away. */
static int is_datagram(int fd) {
  int type = 0;
  socklen_t len = sizeof type;
  return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_DGRAM;
}

static ssize_t receive_plain(int fd, struct msghdr *message, void *data, size_t len, int flags) {
  socklen_t *name_len = message->msg_name ? &message->msg_namelen : NULL;
  int whole = flags & MSG_TRUNC || is_datagram(fd) ? MSG_TRUNC : 0;
  ssize_t got = recvfrom(fd, data, len, flags | whole, message->msg_name, name_len);
  if (got < 0) return -1;
  size_t stored = (size_t)got < len ? (size_t)got : len;
  message->msg_controllen = 0;
  message->msg_flags = (size_t)got > len ? MSG_TRUNC : 0;
  if (message->msg_iovlen != 1) scatter(message, data, stored);
  return flags & MSG_TRUNC ? got : (ssize_t)stored;
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags) {
  void *owned;
  ssize_t got = -1;
  size_t len = total(message);
  int32_t error = ENOTSUP;
  char *data = joined(message, len, &owned);
  if (!data && len) return -1;
  if (message->msg_control || !message->msg_name) /* without room too: MSG_CTRUNC tells of what was dropped */
    error = receive_rights(fd, message, data, len, flags, &got);
  if (error == ENOTSUP || error == ENOTSOCK || error == EINVAL) /* a socket that cannot carry descriptors */
    got = receive_plain(fd, message, data, len, flags);
  else if (error != 0)
    errno = error;
  free(owned);
  return got;
}
