/* Sleeping that a signal interrupts: <time.h> nanosleep, <unistd.h> sleep, usleep, pause. */
#include <errno.h>
#include <stddef.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

#define SECOND 1000000000ll

static int64_t nanoseconds(const struct timespec *time) { return (int64_t)time->tv_sec * SECOND + time->tv_nsec; }

/* An error number, as clock_nanosleep returns it. */
static int sleep_until(clockid_t clock, int64_t deadline, struct timespec *rest) {
  struct timespec now;
  int32_t ready, error = 0;
  for (;;) {
    if (clock_gettime(clock, &now) != 0) return errno;
    int64_t left = deadline - nanoseconds(&now);
    if (left < 0) left = 0;
    if (rest) *rest = (struct timespec){.tv_sec = (time_t)(left / SECOND), .tv_nsec = (long)(left % SECOND)};
    if (left == 0 || error != 0) return error;
    error = abi_ppoll(&ready, 0, left / SECOND, left % SECOND, 0, 0, 0, &ready);
  }
}

OVERRIDE int clock_nanosleep(clockid_t clock, int flags, const struct timespec *wanted, struct timespec *rest) {
  struct timespec now;
  if (wanted->tv_nsec < 0 || wanted->tv_nsec >= SECOND || wanted->tv_sec < 0) return EINVAL;
  if (flags == TIMER_ABSTIME) return sleep_until(clock, nanoseconds(wanted), NULL);
  if (flags != 0) return EINVAL;
  if (wanted->tv_sec > 1000000000) return sleep_until(clock, INT64_MAX, rest);
  if (clock_gettime(clock, &now) != 0) return errno;
  return sleep_until(clock, nanoseconds(&now) + nanoseconds(wanted), rest);
}

OVERRIDE int nanosleep(const struct timespec *wanted, struct timespec *rest) {
  return result(clock_nanosleep(CLOCK_MONOTONIC, 0, wanted, rest));
}

OVERRIDE unsigned sleep(unsigned seconds) {
  struct timespec time = {.tv_sec = seconds}, rest = {0};
  if (nanosleep(&time, &rest) == 0) return 0;
  return (unsigned)rest.tv_sec + (rest.tv_nsec >= SECOND / 2);
}

OVERRIDE int usleep(unsigned microseconds) {
  struct timespec time = {.tv_sec = microseconds / 1000000, .tv_nsec = (long)(microseconds % 1000000) * 1000};
  return nanosleep(&time, NULL);
}

int pause(void) {
  int32_t ready;
  return result(abi_ppoll(&ready, 0, -1, -1, 0, 0, 0, &ready)) == 0 ? 0 : -1;
}
