/* <signal.h> the blocked signals: sigprocmask, sigsuspend. */
#include <errno.h>
#include <signal.h>

#include "internal.h"

int pthread_sigmask(int how, const sigset_t *restrict set, sigset_t *restrict old) {
  enum { QUERY = 3 };
  uint32_t before[2] = {0, 0};
  if (set && (how < SIG_BLOCK || how > SIG_SETMASK)) return EINVAL;
  int32_t error = abi_signal_mask(set ? how : QUERY, low(set), high(set), &before[0], &before[1]);
  if (error == 0 && old) *old = (sigset_t){{before[0], before[1]}};
  return error;
}

int sigprocmask(int how, const sigset_t *restrict set, sigset_t *restrict old) {
  return result(pthread_sigmask(how, set, old));
}

int sigsuspend(const sigset_t *mask) {
  int32_t ready;
  return result(abi_ppoll(&ready, 0, -1, -1, low(mask), high(mask), 1, &ready)) == 0 ? 0 : -1;
}
