/* <unistd.h> isatty, <sys/ioctl.h> ioctl, <termios.h>: what programs ask about terminals.
   Terminal modes are not in the part of the ABI that the SDK uses: on a terminal they fail with ENOSYS. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>
#include <wasi/api.h>

#include "internal.h"

OVERRIDE int __isatty(int fd) {
  int32_t terminal = 0;
  __wasi_fdstat_t status;
  if (abi_isatty(fd, &terminal) == 0 && terminal) return 1;
  errno = __wasi_fd_fdstat_get((__wasi_fd_t)fd, &status) == __WASI_ERRNO_BADF ? EBADF : ENOTTY;
  return 0;
}

OVERRIDE int isatty(int fd) { return __isatty(fd); }

static int readable_bytes(int fd, int *count) {
  __wasi_subscription_t asked[2] = {
      {.u = {.tag = __WASI_EVENTTYPE_FD_READ, .u.fd_read.file_descriptor = (__wasi_fd_t)fd}},
      {.u = {.tag = __WASI_EVENTTYPE_CLOCK, .u.clock.id = __WASI_CLOCKID_MONOTONIC}}};
  __wasi_event_t events[2];
  size_t happened;
  if (result(__wasi_poll_oneoff(asked, events, 2, &happened)) != 0) return -1;
  *count = 0;
  for (size_t i = 0; i < happened; i++) {
    if (events[i].type != __WASI_EVENTTYPE_FD_READ) continue;
    if (result(events[i].error) != 0) return -1;
    *count = (int)events[i].fd_readwrite.nbytes;
  }
  return 0;
}

static int set_nonblocking(int fd, int on) {
  __wasi_fdstat_t status;
  if (result(__wasi_fd_fdstat_get((__wasi_fd_t)fd, &status)) != 0) return -1;
  int flags = on ? status.fs_flags | __WASI_FDFLAGS_NONBLOCK : status.fs_flags & ~__WASI_FDFLAGS_NONBLOCK;
  return result(__wasi_fd_fdstat_set_flags((__wasi_fd_t)fd, (__wasi_fdflags_t)flags));
}

static int window_size(int fd, struct winsize *size) {
  enum { LINUX_EBADF = 9 };
  int32_t error = abi_tty_size(fd, &size->ws_col, &size->ws_row);
  size->ws_xpixel = size->ws_ypixel = 0;
  return result(error == 0 ? 0 : error == LINUX_EBADF ? EBADF : ENOTTY);
}

OVERRIDE int ioctl(int fd, int request, ...) {
  va_list arguments;
  va_start(arguments, request);
  void *argument = va_arg(arguments, void *);
  va_end(arguments);
  switch (request) {
    case FIONREAD: return readable_bytes(fd, argument);
    case FIONBIO: return set_nonblocking(fd, *(int *)argument);
    case TIOCGWINSZ: return window_size(fd, argument);
    default: errno = isatty(fd) || errno != EBADF ? ENOTTY : EBADF; return -1;
  }
}

static int no_modes(int fd) {
  if (isatty(fd)) errno = ENOSYS;
  return -1;
}

int tcgetattr(int fd, struct termios *modes) {
  (void)modes;
  return no_modes(fd);
}

int tcsetattr(int fd, int when, const struct termios *modes) {
  (void)when;
  (void)modes;
  return no_modes(fd);
}

pid_t tcgetpgrp(int fd) { return no_modes(fd); }

int tcsetpgrp(int fd, pid_t group) {
  (void)group;
  return no_modes(fd);
}

int tcflush(int fd, int queue) {
  (void)queue;
  return no_modes(fd);
}

int tcdrain(int fd) { return no_modes(fd); }

speed_t cfgetospeed(const struct termios *modes) { return modes->c_cflag & CBAUD; }
speed_t cfgetispeed(const struct termios *modes) { return cfgetospeed(modes); }

int cfsetospeed(struct termios *modes, speed_t speed) {
  if (speed & ~(speed_t)CBAUD) {
    errno = EINVAL;
    return -1;
  }
  modes->c_cflag = (modes->c_cflag & ~(tcflag_t)CBAUD) | speed;
  return 0;
}

int cfsetispeed(struct termios *modes, speed_t speed) { return speed ? cfsetospeed(modes, speed) : 0; }

void cfmakeraw(struct termios *modes) {
  modes->c_iflag &= ~(tcflag_t)(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
  modes->c_oflag &= ~(tcflag_t)OPOST;
  modes->c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON | ISIG | IEXTEN);
  modes->c_cflag = (modes->c_cflag & ~(tcflag_t)(CSIZE | PARENB)) | CS8;
  modes->c_cc[VMIN] = 1;
  modes->c_cc[VTIME] = 0;
}

int ttyname_r(int fd, char *name, size_t size) {
  static const char terminal[] = "/dev/tty";
  if (!isatty(fd)) return errno;
  if (size < sizeof terminal) return ERANGE;
  memcpy(name, terminal, sizeof terminal);
  return 0;
}

char *ttyname(int fd) {
  static char name[16];
  int error = ttyname_r(fd, name, sizeof name);
  return result(error) == 0 ? name : NULL;
}

char *ctermid(char *name) {
  static char own[L_ctermid];
  return strcpy(name ? name : own, "/dev/tty");
}
