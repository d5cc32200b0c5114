/* <signal.h> sigaction, signal, and the trampoline through which the host runs handlers.
   The host knows a signal as default, ignored or caught, and calls the one exported function for every caught one;
   which handler that is, is known here. A program that has no handlers does not link this file, and so exports none. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "internal.h"

void __wasi_signal_trampoline(int sig);
void __agentvm_restore_action(int sig);
void (*__agentvm_signal(int sig, void (*handler)(int)))(int);

enum { DEFAULT, IGNORE, CATCH };
enum { SIG_QUERY = 3 };

static struct sigaction actions[_NSIG];
static unsigned interruptible[2];        /* by siginterrupt */
static sigset_t awaited, caught;         /* by sigtimedwait: its set, and what came of it */

static int has(const sigset_t *set, int sig) { return set->__bits[(sig - 1) / 32] >> ((sig - 1) % 32) & 1; }
static void put(sigset_t *set, int sig) { set->__bits[(sig - 1) / 32] |= 1u << ((sig - 1) % 32); }

static int kind_of(const struct sigaction *action) {
  if (action->sa_flags & SA_SIGINFO) return CATCH;
  return action->sa_handler == SIG_DFL ? DEFAULT : action->sa_handler == SIG_IGN ? IGNORE : CATCH;
}

static int tell_host(int sig, const struct sigaction *action) {
  return result(abi_sigaction(sig, kind_of(action), low(&action->sa_mask), high(&action->sa_mask),
                              (uint32_t)action->sa_flags));
}

__attribute__((__export_name__("__wasi_signal_trampoline"))) void __wasi_signal_trampoline(int sig) {
  if (sig < 1 || sig >= _NSIG) return;
  if (has(&awaited, sig)) {
    put(&caught, sig);
    return;
  }
  int saved = errno;
  struct sigaction action = actions[sig];
  if (action.sa_flags & SA_RESETHAND) actions[sig].sa_handler = SIG_DFL, actions[sig].sa_flags &= ~SA_SIGINFO;
  if (action.sa_flags & SA_SIGINFO) {
    siginfo_t info = {.si_signo = sig, .si_code = SI_USER};
    action.sa_sigaction(sig, &info, NULL);
  } else if (kind_of(&action) == CATCH) {
    action.sa_handler(sig);
  }
  errno = saved;
}

/* For system(), which ignores two signals for a while. */
void __agentvm_restore_action(int sig) { (void)!tell_host(sig, &actions[sig]); }

int sigaction(int sig, const struct sigaction *restrict action, struct sigaction *restrict old) {
  if (sig < 1 || sig >= _NSIG || (action && (sig == SIGKILL || sig == SIGSTOP))) {
    errno = EINVAL;
    return -1;
  }
  struct sigaction before = actions[sig];
  if (action) {
    actions[sig] = *action; /* before the host knows: the call may end in the handler */
    if (tell_host(sig, action) != 0) {
      actions[sig] = before;
      return -1;
    }
  }
  if (old) *old = before;
  return 0;
}

void (*__agentvm_signal(int sig, void (*handler)(int)))(int) {
  struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART}, old;
  if (sig >= 1 && sig < _NSIG && interruptible[(sig - 1) / 32] >> ((sig - 1) % 32) & 1) action.sa_flags = 0;
  return sigaction(sig, &action, &old) == 0 ? old.sa_handler : SIG_ERR;
}

int siginterrupt(int sig, int interrupt) {
  struct sigaction action;
  if (sigaction(sig, NULL, &action) != 0) return -1;
  unsigned bit = 1u << ((sig - 1) % 32);
  if (interrupt) {
    interruptible[(sig - 1) / 32] |= bit;
    action.sa_flags &= ~SA_RESTART;
  } else {
    interruptible[(sig - 1) / 32] &= ~bit;
    action.sa_flags |= SA_RESTART;
  }
  return sigaction(sig, &action, NULL);
}

static int catchable(int sig) { return sig != SIGKILL && sig != SIGSTOP; }

/* Let the signals of `set` in for the length of one ppoll, and only note which came: they are caught meanwhile, and
   blocked before and afterwards. Nothing else than a pending signal ends a ppoll without descriptors early. */
static int32_t take(const sigset_t *set, int64_t seconds, int64_t nanoseconds) {
  static const struct sigaction taken = {.__sa_handler = {__SIG_ERR}, .sa_mask = {{~0u, ~0u}}};
  uint32_t mask[2];
  int32_t ready, error = abi_signal_mask(SIG_BLOCK, set->__bits[0], set->__bits[1], &mask[0], &mask[1]);
  memset(&caught, 0, sizeof caught);
  if (error != 0) return error;
  for (int sig = 1; sig < _NSIG; sig++)
    if (has(set, sig) && catchable(sig)) (void)!tell_host(sig, &taken);
  awaited = *set;
  error = abi_ppoll(&ready, 0, seconds, nanoseconds, mask[0] & ~set->__bits[0], mask[1] & ~set->__bits[1], 1, &ready);
  memset(&awaited, 0, sizeof awaited);
  for (int sig = 1; sig < _NSIG; sig++)
    if (has(set, sig) && catchable(sig)) (void)!tell_host(sig, &actions[sig]);
  return error;
}

/* Make pending again what `take` took, but for `except`. */
static void put_back(int except) {
  int32_t self;
  if (abi_getpid(&self) != 0) return;
  for (int sig = 1; sig < _NSIG; sig++)
    if (has(&caught, sig) && sig != except) (void)!abi_kill(self, sig);
}

int sigtimedwait(const sigset_t *restrict set, siginfo_t *restrict info, const struct timespec *restrict timeout) {
  uint32_t mask[2], ignored[2];
  int sig = 1;
  if (timeout && (timeout->tv_sec < 0 || timeout->tv_nsec < 0 || timeout->tv_nsec >= 1000000000)) {
    errno = EINVAL;
    return -1;
  }
  if (result(abi_signal_mask(SIG_QUERY, 0, 0, &mask[0], &mask[1])) != 0) return -1;
  int32_t error = take(set, timeout ? timeout->tv_sec : -1, timeout ? timeout->tv_nsec : -1);
  while (sig < _NSIG && !has(&caught, sig)) sig++;
  if (sig < _NSIG) put_back(sig);
  (void)!abi_signal_mask(SIG_SETMASK, mask[0], mask[1], &ignored[0], &ignored[1]);
  if (sig == _NSIG) {
    errno = error == 0 ? EAGAIN : error;
    return -1;
  }
  if (info) *info = (siginfo_t){.si_signo = sig, .si_code = SI_USER};
  return sig;
}

/* The ABI has no call for it, so the blocked signals are let in, noted and sent again. */
int sigpending(sigset_t *set) {
  sigset_t blocked;
  memset(set, 0, sizeof *set);
  if (result(abi_signal_mask(SIG_QUERY, 0, 0, &blocked.__bits[0], &blocked.__bits[1])) != 0) return -1;
  if (!(blocked.__bits[0] | blocked.__bits[1])) return 0;
  (void)take(&blocked, 0, 0);
  *set = caught;
  put_back(0);
  return 0;
}

int sigwaitinfo(const sigset_t *restrict set, siginfo_t *restrict info) { return sigtimedwait(set, info, NULL); }

int sigwait(const sigset_t *restrict set, int *restrict sig) {
  int got;
  while ((got = sigtimedwait(set, NULL, NULL)) < 0)
    if (errno != EINTR) return errno;
  *sig = got;
  return 0;
}

/* Handlers run on the program's own stack; there is no other. */
int sigaltstack(const stack_t *restrict stack, stack_t *restrict old) {
  if (old) *old = (stack_t){.ss_flags = SS_DISABLE};
  if (!stack || stack->ss_flags & SS_DISABLE) return 0;
  errno = ENOSYS;
  return -1;
}
