/* <fcntl.h>: wasi-libc's, and what it has no host calls for. */
#ifndef AGENTVM_FCNTL_H
#define AGENTVM_FCNTL_H

#pragma GCC system_header

#include_next <fcntl.h>

#ifdef __cplusplus
extern "C" {
#endif

/* 0 in wasi-libc. The SDK takes these bits away before the host sees the flags. */
#undef O_CLOEXEC
#define O_CLOEXEC 0x40000000
#define O_ASYNC 0
#define O_NDELAY O_NONBLOCK

#define F_DUPFD 0
#define F_GETLK 12
#define F_SETLK 13
#define F_SETLKW 14
#define F_DUPFD_CLOEXEC 1030

#define F_RDLCK 0
#define F_WRLCK 1
#define F_UNLCK 2

#undef AT_EACCESS
#define AT_EACCESS 0x200

#ifndef F_ULOCK
#define F_ULOCK 0
#define F_LOCK 1
#define F_TLOCK 2
#define F_TEST 3
#endif

int lockf(int, int, off_t);

#ifdef __cplusplus
}
#endif

#include <sys/stat.h>

#endif
