/* <limits.h>: wasi-libc's, and the constants of pipes, names and hosts. */
#ifndef AGENTVM_LIMITS_H
#define AGENTVM_LIMITS_H

#pragma GCC system_header

#include_next <limits.h>

#ifndef PIPE_BUF
#define PIPE_BUF 4096
#endif
#ifndef HOST_NAME_MAX
#define HOST_NAME_MAX 255
#endif
#ifndef LOGIN_NAME_MAX
#define LOGIN_NAME_MAX 256
#endif
#ifndef LINE_MAX
#define LINE_MAX 4096
#endif
#ifndef _POSIX_PIPE_BUF
#define _POSIX_PIPE_BUF 512
#endif

#endif
