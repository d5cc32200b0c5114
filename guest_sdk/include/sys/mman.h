/* <sys/mman.h>: wasi-libc's emulation, which copies a file into memory and back. */
#ifndef AGENTVM_SYS_MMAN_H
#define AGENTVM_SYS_MMAN_H

#pragma GCC system_header

#ifndef _WASI_EMULATED_MMAN
#define _WASI_EMULATED_MMAN
#include_next <sys/mman.h>
#undef _WASI_EMULATED_MMAN
#else
#include_next <sys/mman.h>
#endif

#endif
