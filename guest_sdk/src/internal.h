/* What the sources of the SDK share. Nothing here is for programs. */
#ifndef AGENTVM_INTERNAL_H
#define AGENTVM_INTERNAL_H

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>

#include "abi.h"

/* A function that wasi-libc has too. It is weak, so that a program can still define its own. */
#define OVERRIDE __attribute__((__weak__))

#define ROOT_TAG 0x40000000u   /* preopened directories are descriptors with this bit */
#define RETRY_CAP 65536u       /* the longest passwd line or address list that is asked for */

/* Set errno from a host call: 0, or -1 with errno. */
static inline int result(int32_t error) {
  if (error == 0) return 0;
  errno = error;
  return -1;
}

static inline uint32_t low(const sigset_t *set) { return set ? set->__bits[0] : 0; }
static inline uint32_t high(const sigset_t *set) { return set ? set->__bits[1] : 0; }

/* A path as the host takes it: a directory and a relative path below it. */
struct place {
  int dirfd;
  size_t len;
  const char *path;
  char text[4096];
};

/* Fill `place` for `path` as seen from `dirfd` (AT_FDCWD: the current directory). 0, or -1 with errno. */
int __agentvm_place(struct place *place, int dirfd, const char *path);
/* The absolute form of `path` in `text`. 0, or -1 with errno ENAMETOOLONG or ENOENT (an empty path). */
int __agentvm_absolute(char *text, size_t cap, const char *path);
/* The current directory, an absolute path; and whether it is another than the process started in. */
const char *__agentvm_cwd(void);
extern int __agentvm_moved;

/* A block of NUL-terminated strings made of `strings`; *len is its size. NULL with errno ENOMEM. */
char *__agentvm_block(char *const strings[], size_t *len);
/* The same for an environment whose PWD, if it has one (or `add`), must name `cwd`; NULL leaves PWD out. */
char *__agentvm_environ_block(char *const env[], const char *cwd, int add, size_t *len);

/* Read and write for descriptors that the host serves as sockets only; linked with the socket calls. */
intptr_t __agentvm_socket_read(int fd, void *data, size_t len) __attribute__((__weak__));
intptr_t __agentvm_socket_write(int fd, const void *data, size_t len) __attribute__((__weak__));
int __agentvm_socket_close(int fd) __attribute__((__weak__));

#endif
