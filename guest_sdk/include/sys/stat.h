/* <sys/stat.h>: wasi-libc's, and umask, FIFOs and modes. */
#ifndef AGENTVM_SYS_STAT_H
#define AGENTVM_SYS_STAT_H

#pragma GCC system_header

#include_next <sys/stat.h>

#ifdef __cplusplus
extern "C" {
#endif

mode_t umask(mode_t);
int mkfifo(const char *, mode_t);
int mkfifoat(int, const char *, mode_t);
int mknod(const char *, mode_t, dev_t);
int mknodat(int, const char *, mode_t, dev_t);
int lchmod(const char *, mode_t);

#ifdef __cplusplus
}
#endif

#endif
