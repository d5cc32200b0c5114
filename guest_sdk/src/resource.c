/* <sys/resource.h>. */
#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <wasi/api.h>

#include "internal.h"

int getrlimit(int resource, struct rlimit *limit) {
  return result(abi_getrlimit(resource, &limit->rlim_cur, &limit->rlim_max));
}

int setrlimit(int resource, const struct rlimit *limit) {
  return result(abi_setrlimit(resource, limit->rlim_cur, limit->rlim_max));
}

int getdtablesize(void) {
  struct rlimit limit;
  return getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < 0x7fffffff ? (int)limit.rlim_cur : 256;
}

/* The processor time of this process, where the host has the clock for it; nothing is known of the children. */
OVERRIDE int getrusage(int who, struct rusage *usage) {
  __wasi_timestamp_t spent;
  if (who != RUSAGE_SELF && who != RUSAGE_CHILDREN) {
    errno = EINVAL;
    return -1;
  }
  memset(usage, 0, sizeof *usage);
  if (who != RUSAGE_SELF || __wasi_clock_time_get(__WASI_CLOCKID_PROCESS_CPUTIME_ID, 1000, &spent) != 0) return 0;
  usage->ru_utime.tv_sec = (time_t)(spent / 1000000000);
  usage->ru_utime.tv_usec = (suseconds_t)(spent % 1000000000 / 1000);
  return 0;
}
