/* <sys/time.h> setitimer, <unistd.h> alarm and ualarm, over the one real timer. */
#include <errno.h>
#include <limits.h>
#include <sys/time.h>
#include <unistd.h>

#include "internal.h"

enum { GET, SET };
#define MILLION 1000000

static struct timeval from_us(uint64_t us) {
  return (struct timeval){.tv_sec = (time_t)(us / MILLION), .tv_usec = (suseconds_t)(us % MILLION)};
}

static int64_t to_us(const struct timeval *time) {
  if (time->tv_sec < 0 || time->tv_usec < 0 || time->tv_usec >= MILLION) return -1;
  return (int64_t)time->tv_sec * MILLION + time->tv_usec;
}

static int timer(int op, int which, int64_t value, int64_t interval, struct itimerval *old) {
  uint64_t old_value = 0, old_interval = 0;
  if (which != ITIMER_REAL || value < 0 || interval < 0) {
    errno = EINVAL;
    return -1;
  }
  if (result(abi_itimer(op, value, interval, &old_value, &old_interval)) != 0) return -1;
  if (old) *old = (struct itimerval){.it_value = from_us(old_value), .it_interval = from_us(old_interval)};
  return 0;
}

int getitimer(int which, struct itimerval *now) { return timer(GET, which, 0, 0, now); }

int setitimer(int which, const struct itimerval *restrict wanted, struct itimerval *restrict old) {
  return timer(SET, which, to_us(&wanted->it_value), to_us(&wanted->it_interval), old);
}

unsigned alarm(unsigned seconds) {
  struct itimerval old = {{0}, {0}};
  if (timer(SET, ITIMER_REAL, (int64_t)seconds * MILLION, 0, &old) != 0) return 0;
  unsigned left = (unsigned)old.it_value.tv_sec;
  if (old.it_value.tv_usec >= MILLION / 2 || (left == 0 && old.it_value.tv_usec)) left++;
  return left;
}

unsigned ualarm(unsigned value, unsigned interval) {
  struct itimerval old = {{0}, {0}};
  if (timer(SET, ITIMER_REAL, value, interval, &old) != 0) return 0;
  return (unsigned)(old.it_value.tv_sec * MILLION + old.it_value.tv_usec);
}
