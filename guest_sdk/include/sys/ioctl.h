/* <sys/ioctl.h>: wasi-libc's, and the window size. */
#ifndef AGENTVM_SYS_IOCTL_H
#define AGENTVM_SYS_IOCTL_H

#pragma GCC system_header

#include_next <sys/ioctl.h>

#define TIOCGWINSZ 0x5413

#define __NEED_struct_winsize
#include <bits/alltypes.h>

#endif
