/* <sys/times.h>: wasi-libc's emulation, by the clock on the wall. */
#ifndef AGENTVM_SYS_TIMES_H
#define AGENTVM_SYS_TIMES_H

#pragma GCC system_header

#ifndef _WASI_EMULATED_PROCESS_CLOCKS
#define _WASI_EMULATED_PROCESS_CLOCKS
#include_next <sys/times.h>
#undef _WASI_EMULATED_PROCESS_CLOCKS
#else
#include_next <sys/times.h>
#endif

#endif
