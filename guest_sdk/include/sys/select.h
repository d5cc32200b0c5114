/* <sys/select.h>: wasi-libc's, with the sigset_t of the SDK. */
#ifndef AGENTVM_SYS_SELECT_H
#define AGENTVM_SYS_SELECT_H

#pragma GCC system_header

#include_next <sys/select.h>

#ifndef NFDBITS
#define NFDBITS (8 * (int)sizeof(long))
#endif

#endif
