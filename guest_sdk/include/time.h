/* <time.h>: wasi-libc's; clock() without the warning that it is emulated. */
#ifndef AGENTVM_TIME_H
#define AGENTVM_TIME_H

#pragma GCC system_header

#ifndef _WASI_EMULATED_PROCESS_CLOCKS
#define _WASI_EMULATED_PROCESS_CLOCKS
#include_next <time.h>
#undef _WASI_EMULATED_PROCESS_CLOCKS
#else
#include_next <time.h>
#endif

#endif
