/* The functions of wasi-libc that the SDK takes over, each named once.

   zig hands its libc.a to the linker ahead of everything else, and the linker takes a member out of it at the first
   reference. So the SDK's definitions must be known before anything that they call is looked up: cc.py merges the
   objects of the overriding files into one, this one first, and with it every name below stands at the head of the
   merged object's symbol table. The table itself is never used; the linker drops it. */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>
#include <utime.h>
#include <wasi/libc-find-relpath.h>
#include <wasi/libc-nocwd.h>
#include <wasi/libc.h>

#include "internal.h"

int __fmodeflags(const char *);
int __isatty(int);
void __wasilibc_reset_preopens(void);
int scandirat(int, const char *restrict, struct dirent ***restrict, int (*)(const struct dirent *),
              int (*)(const struct dirent **, const struct dirent **));
extern char *__wasilibc_cwd;

typedef void (*name)(void);

const void *const __agentvm_taken_data[] = {&__wasilibc_cwd};

const name __agentvm_taken[] = {
    /* paths.c */
    (name)__wasilibc_populate_preopens, (name)__wasilibc_register_preopened_fd, (name)__wasilibc_reset_preopens,
    (name)__wasilibc_find_abspath, (name)__wasilibc_find_relpath, (name)__wasilibc_find_relpath_alloc, (name)getcwd,
    (name)chdir,
    /* files.c */
    (name)open, (name)openat, (name)creat, (name)__wasilibc_open_nomode, (name)__wasilibc_nocwd_openat_nomode,
    (name)__fmodeflags, (name)faccessat, (name)access, (name)__wasilibc_access, (name)readlinkat, (name)readlink,
    (name)symlinkat, (name)symlink, (name)linkat, (name)link, (name)__wasilibc_link, (name)__wasilibc_link_oldat,
    (name)__wasilibc_link_newat, (name)renameat, (name)rename, (name)__wasilibc_rename_oldat,
    (name)__wasilibc_rename_newat, (name)__wasilibc_unlinkat, (name)__wasilibc_rmdirat, (name)unlinkat, (name)unlink,
    (name)rmdir, (name)truncate, (name)remove, (name)opendirat, (name)opendir, (name)scandirat, (name)scandir, (name)utimensat,
    (name)__wasilibc_utimens, (name)utime, (name)utimes,
    /* stat.c */
    (name)fstat, (name)fstatat, (name)__wasilibc_nocwd_fstatat, (name)stat, (name)lstat, (name)__wasilibc_stat,
    (name)fchmodat, (name)chmod, (name)fchmod, (name)mkdirat, (name)mkdir, (name)__wasilibc_nocwd_mkdirat_nomode,
    (name)statvfs, (name)fstatvfs,
    /* fcntl.c, io.c, poll.c, sleep.c, tty.c */
    (name)fcntl, (name)posix_fadvise, (name)readv, (name)writev, (name)read, (name)write, (name)close, (name)poll, (name)pselect,
    (name)select, (name)clock_nanosleep, (name)nanosleep, (name)sleep, (name)usleep, (name)__isatty, (name)isatty,
    (name)ioctl,
    /* process.c, signal_send.c, resource.c, utsname.c */
    (name)getpid, (name)__SIG_IGN, (name)__SIG_ERR, (name)raise, (name)abort, (name)getrusage, (name)uname,
    (name)getdomainname,
    /* socket_io.c */
    (name)accept4, (name)accept, (name)send, (name)recv, (name)getsockopt, (name)shutdown,
};
