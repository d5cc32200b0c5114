/* Takes the place of wasi-libc's header of this name, which has two of the fields. */
#ifndef __wasilibc___struct_rusage_h
#define __wasilibc___struct_rusage_h

#pragma GCC system_header

#include <__struct_timeval.h>

struct rusage {
  struct timeval ru_utime;
  struct timeval ru_stime;
  long ru_maxrss, ru_ixrss, ru_idrss, ru_isrss, ru_minflt, ru_majflt, ru_nswap;
  long ru_inblock, ru_oublock, ru_msgsnd, ru_msgrcv, ru_nsignals, ru_nvcsw, ru_nivcsw;
};

#endif
