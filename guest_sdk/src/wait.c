/* <sys/wait.h>. The host's raw status is that of Linux, which the W* macros take apart. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "internal.h"

pid_t waitpid(pid_t pid, int *status, int options) {
  int32_t raw = 0, child = 0;
  if (options & ~(WNOHANG | WUNTRACED | WCONTINUED)) {
    errno = EINVAL;
    return -1;
  }
  if (result(abi_waitpid(pid, options, &raw, &child)) != 0) return -1;
  if (status && child > 0) *status = raw;
  return child;
}

pid_t wait(int *status) { return waitpid(-1, status, 0); }

/* A child's use of resources is not in the ABI: all zero. */
pid_t wait4(pid_t pid, int *status, int options, struct rusage *usage) {
  pid_t child = waitpid(pid, status, options);
  if (child > 0 && usage) memset(usage, 0, sizeof *usage);
  return child;
}

pid_t wait3(int *status, int options, struct rusage *usage) { return wait4(-1, status, options, usage); }

static void describe(siginfo_t *info, pid_t child, int status) {
  *info = (siginfo_t){.si_signo = SIGCHLD, .si_pid = child};
  if (WIFEXITED(status)) {
    info->si_code = CLD_EXITED;
    info->si_status = WEXITSTATUS(status);
  } else if (WIFSTOPPED(status)) {
    info->si_code = CLD_STOPPED;
    info->si_status = WSTOPSIG(status);
  } else if (WIFCONTINUED(status)) {
    info->si_code = CLD_CONTINUED;
    info->si_status = SIGCONT;
  } else {
    info->si_code = WCOREDUMP(status) ? CLD_DUMPED : CLD_KILLED;
    info->si_status = WTERMSIG(status);
  }
}

int waitid(idtype_t type, id_t id, siginfo_t *info, int options) {
  int status = 0;
  pid_t pid = -1;
  if (options & ~(WNOHANG | WEXITED | WSTOPPED | WCONTINUED | WNOWAIT) ||
      !(options & (WEXITED | WSTOPPED | WCONTINUED)) || type > P_PGID || (type == P_PID && id <= 0)) {
    errno = EINVAL;
    return -1;
  }
  /* The host reaps what it reports, and it always reports exits. */
  if (options & WNOWAIT || !(options & WEXITED)) {
    errno = ENOSYS;
    return -1;
  }
  if (type == P_PID) pid = (pid_t)id;
  if (type == P_PGID) pid = id == 0 ? 0 : -(pid_t)id;
  pid_t child = waitpid(pid, &status, options & (WNOHANG | WUNTRACED | WCONTINUED));
  if (child < 0) return -1;
  if (info) memset(info, 0, sizeof *info);
  if (info && child > 0) describe(info, child, status);
  return 0;
}
