/* <signal.h> signal sets. */
#include <errno.h>
#include <signal.h>

int sigemptyset(sigset_t *set) {
  set->__bits[0] = set->__bits[1] = 0;
  return 0;
}

int sigfillset(sigset_t *set) {
  set->__bits[0] = set->__bits[1] = ~0u;
  return 0;
}

static unsigned *word(const sigset_t *set, int sig) {
  if (sig >= 1 && sig < _NSIG) return (unsigned *)&set->__bits[(sig - 1) / 32];
  errno = EINVAL;
  return 0;
}

int sigaddset(sigset_t *set, int sig) {
  unsigned *bits = word(set, sig);
  if (!bits) return -1;
  *bits |= 1u << ((sig - 1) % 32);
  return 0;
}

int sigdelset(sigset_t *set, int sig) {
  unsigned *bits = word(set, sig);
  if (!bits) return -1;
  *bits &= ~(1u << ((sig - 1) % 32));
  return 0;
}

int sigismember(const sigset_t *set, int sig) {
  const unsigned *bits = word(set, sig);
  return bits ? *bits >> ((sig - 1) % 32) & 1 : -1;
}

int sigisemptyset(const sigset_t *set) { return !(set->__bits[0] | set->__bits[1]); }

int sigorset(sigset_t *out, const sigset_t *a, const sigset_t *b) {
  for (int i = 0; i < 2; i++) out->__bits[i] = a->__bits[i] | b->__bits[i];
  return 0;
}

int sigandset(sigset_t *out, const sigset_t *a, const sigset_t *b) {
  for (int i = 0; i < 2; i++) out->__bits[i] = a->__bits[i] & b->__bits[i];
  return 0;
}
