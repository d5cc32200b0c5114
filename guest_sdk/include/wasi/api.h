/* <wasi/api.h>: wasi-libc's. Programs that know __wasi__ as a system without processes are built with -U__wasi__; the
   C library's own headers still need it. */
#ifndef AGENTVM_WASI_API_H
#define AGENTVM_WASI_API_H

#pragma GCC system_header

#ifdef __wasi__
#include_next <wasi/api.h>
#else
#define __wasi__ 1
#include_next <wasi/api.h>
#undef __wasi__
#endif

#endif
