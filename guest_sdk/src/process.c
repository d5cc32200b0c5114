/* <unistd.h> process ids, and what the ABI has no call for. */
#include <errno.h>
#include <unistd.h>

#include "internal.h"

static pid_t number(int32_t error, int32_t value) { return result(error) == 0 ? value : -1; }

OVERRIDE pid_t getpid(void) {
  int32_t pid = 0;
  int32_t error = abi_getpid(&pid);
  return number(error, pid);
}

pid_t getppid(void) {
  int32_t pid = 0;
  int32_t error = abi_getppid(&pid);
  return number(error, pid);
}

pid_t gettid(void) { return getpid(); }

pid_t getpgid(pid_t pid) {
  int32_t group = 0;
  pid_t self = pid == 0 ? getpid() : pid;
  int32_t error = abi_getpgid(self, &group);
  return number(error, group);
}

pid_t getpgrp(void) { return getpgid(0); }
int setpgid(pid_t pid, pid_t group) { return result(abi_setpgid(pid, group)); }
int setpgrp(void) { return setpgid(0, 0); }

static int missing(void) {
  errno = ENOSYS;
  return -1;
}

pid_t fork(void) { return missing(); }
pid_t vfork(void) { return missing(); }
int daemon(int nochdir, int noclose) {
  (void)nochdir;
  (void)noclose;
  return missing();
}

/* A session starts with POSIX_SPAWN_SETSID only. */
pid_t setsid(void) { return missing(); }
pid_t getsid(pid_t pid) {
  (void)pid;
  return missing();
}

int nice(int increment) {
  (void)increment;
  return missing();
}
