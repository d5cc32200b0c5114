/* <poll.h> and <sys/select.h>: net_poll takes any descriptor; a signal mask or nanoseconds need proc_ppoll_v1. */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/select.h>
#include <time.h>

#include "internal.h"

OVERRIDE int poll(struct pollfd fds[], nfds_t count, int timeout_ms) {
  int32_t ready;
  return result(abi_poll(fds, count, timeout_ms < 0 ? -1 : timeout_ms, &ready)) == 0 ? (int)ready : -1;
}

OVERRIDE int ppoll(struct pollfd fds[], nfds_t count, const struct timespec *timeout, const sigset_t *mask) {
  int32_t ready;
  if (timeout && (timeout->tv_sec < 0 || timeout->tv_nsec < 0 || timeout->tv_nsec >= 1000000000)) {
    errno = EINVAL;
    return -1;
  }
  int64_t seconds = timeout ? timeout->tv_sec : -1, nanoseconds = timeout ? timeout->tv_nsec : -1;
  int32_t error = abi_ppoll(fds, count, seconds, nanoseconds, low(mask), high(mask), mask != NULL, &ready);
  return result(error) == 0 ? (int)ready : -1;
}

struct wanted {
  fd_set *set;
  short events;  /* to ask for */
  short answers; /* that count as ready: select calls a descriptor readable at its end, too */
};

static int collect(struct pollfd *fds, const struct wanted *kinds, int nfds, size_t *count) {
  *count = 0;
  for (int kind = 0; kind < 3; kind++) {
    const fd_set *set = kinds[kind].set;
    for (size_t i = 0; set && i < set->__nfds; i++) {
      size_t at = 0;
      int fd = set->__fds[i];
      if (fd >= nfds) continue;
      while (at < *count && fds[at].fd != fd) at++;
      if (at == *count) {
        if (*count == FD_SETSIZE) {
          errno = EINVAL;
          return -1;
        }
        fds[(*count)++] = (struct pollfd){.fd = fd};
      }
      fds[at].events |= kinds[kind].events;
    }
  }
  return 0;
}

static int spread(const struct pollfd *fds, const struct wanted *kinds, size_t count) {
  int ready = 0;
  fd_set asked;
  for (size_t i = 0; i < count; i++) {
    if (fds[i].revents & POLLNVAL) {
      errno = EBADF;
      return -1;
    }
  }
  for (int kind = 0; kind < 3; kind++) {
    if (!kinds[kind].set) continue;
    FD_COPY(kinds[kind].set, &asked);
    FD_ZERO(kinds[kind].set);
    for (size_t i = 0; i < count; i++) {
      if (!(fds[i].revents & kinds[kind].answers) || !FD_ISSET(fds[i].fd, &asked)) continue;
      FD_SET(fds[i].fd, kinds[kind].set);
      ready++;
    }
  }
  return ready;
}

OVERRIDE int pselect(int nfds, fd_set *restrict reads, fd_set *restrict writes, fd_set *restrict errors,
                     const struct timespec *restrict timeout, const sigset_t *restrict mask) {
  const struct wanted kinds[3] = {{reads, POLLIN, POLLIN | POLLHUP | POLLERR},
                                  {writes, POLLOUT, POLLOUT | POLLERR},
                                  {errors, POLLPRI, POLLPRI}};
  size_t count;
  if (nfds < 0) {
    errno = EINVAL;
    return -1;
  }
  struct pollfd *fds = malloc(FD_SETSIZE * sizeof *fds);
  if (!fds) return -1;
  int ready = collect(fds, kinds, nfds, &count);
  if (ready == 0) ready = ppoll(fds, count, timeout, mask);
  if (ready >= 0) ready = spread(fds, kinds, count);
  free(fds);
  return ready;
}

OVERRIDE int select(int nfds, fd_set *restrict reads, fd_set *restrict writes, fd_set *restrict errors,
                    struct timeval *restrict timeout) {
  struct timespec limit;
  if (!timeout) return pselect(nfds, reads, writes, errors, NULL, NULL);
  if (timeout->tv_sec < 0 || timeout->tv_usec < 0) {
    errno = EINVAL;
    return -1;
  }
  limit.tv_sec = timeout->tv_sec + timeout->tv_usec / 1000000;
  limit.tv_nsec = (long)(timeout->tv_usec % 1000000) * 1000;
  return pselect(nfds, reads, writes, errors, &limit, NULL);
}
