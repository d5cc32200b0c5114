/* <signal.h> kill, raise and their like, and <stdlib.h> abort. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "internal.h"

/* SIG_IGN and SIG_ERR are these two by address; neither is called. */
OVERRIDE void __SIG_IGN(int sig) { (void)sig; }
OVERRIDE void __SIG_ERR(int sig) {
  (void)sig;
  __builtin_trap();
}

int kill(pid_t pid, int sig) { return result(abi_kill(pid, sig)); }

int killpg(pid_t group, int sig) {
  if (group < 0) {
    errno = EINVAL;
    return -1;
  }
  return kill(-group, sig);
}

OVERRIDE int raise(int sig) {
  int32_t self;
  return result(abi_getpid(&self)) == 0 ? kill(self, sig) : -1;
}

int pthread_kill(pthread_t thread, int sig) {
  int32_t self;
  if (thread != pthread_self()) return ESRCH;
  int32_t error = abi_getpid(&self);
  return error ? error : abi_kill(self, sig);
}

/* The value is lost: the ABI has no place for it. */
int sigqueue(pid_t pid, int sig, union sigval value) {
  (void)value;
  return kill(pid, sig);
}

OVERRIDE void abort(void) {
  uint32_t old;
  int32_t self;
  (void)!abi_signal_mask(SIG_UNBLOCK, 1u << (SIGABRT - 1), 0, &old, &old);
  if (abi_getpid(&self) == 0) {
    (void)!abi_kill(self, SIGABRT); /* a handler may run and return */
    (void)!abi_sigaction(SIGABRT, 0, 0, 0, 0);
    (void)!abi_kill(self, SIGABRT);
  }
  __builtin_trap();
}
