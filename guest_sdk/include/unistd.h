/* <unistd.h>: wasi-libc's, and processes, pipes, descriptors and identities. */
#ifndef AGENTVM_UNISTD_H
#define AGENTVM_UNISTD_H

#pragma GCC system_header

/* Without this, wasi-libc's getpid() is declared as deprecated. */
#ifndef _WASI_EMULATED_GETPID
#define _WASI_EMULATED_GETPID
#include_next <unistd.h>
#undef _WASI_EMULATED_GETPID
#else
#include_next <unistd.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define _POSIX_JOB_CONTROL 1
#define _POSIX_SAVED_IDS 1
#define _POSIX_SPAWN _POSIX_VERSION

extern char **environ;

int pipe(int[2]);
int pipe2(int[2], int);
int dup(int);
int dup2(int, int);
int dup3(int, int, int);
void closefrom(int);

int execv(const char *, char *const[]);
int execve(const char *, char *const[], char *const[]);
int execvp(const char *, char *const[]);
int execvpe(const char *, char *const[], char *const[]);
int execl(const char *, const char *, ...);
int execlp(const char *, const char *, ...);
int execle(const char *, const char *, ...);
int fexecve(int, char *const[], char *const[]);
/* WebAssembly cannot copy a running process: both fail with ENOSYS. Use posix_spawn. */
pid_t fork(void);
pid_t vfork(void);
int daemon(int, int);

pid_t getppid(void);
pid_t getpgid(pid_t);
pid_t getpgrp(void);
int setpgid(pid_t, pid_t);
int setpgrp(void);
pid_t getsid(pid_t);
pid_t setsid(void);
pid_t tcgetpgrp(int);
int tcsetpgrp(int, pid_t);
pid_t gettid(void);
int nice(int);

uid_t getuid(void);
uid_t geteuid(void);
gid_t getgid(void);
gid_t getegid(void);
int setuid(uid_t);
int seteuid(uid_t);
int setgid(gid_t);
int setegid(gid_t);
int setreuid(uid_t, uid_t);
int setregid(gid_t, gid_t);
int setresuid(uid_t, uid_t, uid_t);
int setresgid(gid_t, gid_t, gid_t);
int getresuid(uid_t *, uid_t *, uid_t *);
int getresgid(gid_t *, gid_t *, gid_t *);
int getgroups(int, gid_t[]);
int setgroups(size_t, const gid_t *);
int issetugid(void);

unsigned alarm(unsigned);
unsigned ualarm(unsigned, unsigned);
int usleep(unsigned);
int pause(void);

int chown(const char *, uid_t, gid_t);
int lchown(const char *, uid_t, gid_t);
int fchown(int, uid_t, gid_t);
int fchownat(int, const char *, uid_t, gid_t, int);
int eaccess(const char *, int);
int euidaccess(const char *, int);
int fchdir(int);
char *get_current_dir_name(void);
void sync(void);
int lockf(int, int, off_t);
char *ttyname(int);
int ttyname_r(int, char *, size_t);
int getdtablesize(void);
int getdomainname(char *, size_t);

#ifdef __cplusplus
}
#endif

#endif
