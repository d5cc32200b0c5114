/* <stdlib.h> system, <stdio.h> popen and pclose, over posix_spawn of /bin/sh. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "internal.h"

static int spawn_shell(pid_t *pid, const char *command, const posix_spawn_file_actions_t *actions,
                       const posix_spawnattr_t *attr) {
  char *const argv[] = {"sh", "-c", (char *)command, NULL};
  return posix_spawn(pid, "/bin/sh", actions, attr, argv, environ);
}

static int wait_for(pid_t pid) {
  int status;
  pid_t got;
  while ((got = waitpid(pid, &status, 0)) < 0 && errno == EINTR) {}
  return got < 0 ? -1 : status;
}

/* The host keeps dispositions; they are set straight there, so that a program without handlers exports no trampoline.
   A program that catches SIGINT or SIGQUIT gets its handler back by the hook of signal_action.c. */
void __agentvm_restore_action(int sig) __attribute__((__weak__));

int system(const char *command) {
  posix_spawnattr_t attr;
  sigset_t blocked, old, defaults;
  pid_t pid;
  int status = -1;
  if (!command) return access("/bin/sh", X_OK) == 0;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGCHLD);
  sigemptyset(&defaults);
  sigaddset(&defaults, SIGINT);
  sigaddset(&defaults, SIGQUIT);
  (void)!abi_sigaction(SIGINT, 1, 0, 0, 0);
  (void)!abi_sigaction(SIGQUIT, 1, 0, 0, 0);
  sigprocmask(SIG_BLOCK, &blocked, &old);
  posix_spawnattr_init(&attr);
  posix_spawnattr_setsigmask(&attr, &old);
  posix_spawnattr_setsigdefault(&attr, &defaults);
  posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
  int error = spawn_shell(&pid, command, NULL, &attr);
  if (error == 0) status = wait_for(pid);
  else if (error == EAGAIN || error == ENOMEM) errno = error;
  else status = 127 << 8; /* as if the shell could not run the command */
  for (int sig = SIGINT; sig <= SIGQUIT; sig++) {
    if (__agentvm_restore_action) __agentvm_restore_action(sig);
    else (void)!abi_sigaction(sig, 0, 0, 0, 0);
  }
  sigprocmask(SIG_SETMASK, &old, NULL);
  return status;
}

void *reallocarray(void *old, size_t count, size_t size) {
  size_t bytes;
  if (!__builtin_mul_overflow(count, size, &bytes)) return realloc(old, bytes);
  errno = ENOMEM;
  return NULL;
}

struct stream {
  FILE *file;
  pid_t pid;
  struct stream *next;
};

static struct stream *streams;

/* A new child must not hold the ends of earlier streams, or their readers would never see the end. */
static int start(pid_t *pid, const char *command, int child_end, int target) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  int error = 0;
  for (const struct stream *each = streams; each && !error; each = each->next)
    if (fileno(each->file) != target) error = posix_spawn_file_actions_addclose(&actions, fileno(each->file));
  if (!error) error = posix_spawn_file_actions_adddup2(&actions, child_end, target);
  if (!error) error = spawn_shell(pid, command, &actions, NULL);
  posix_spawn_file_actions_destroy(&actions);
  return error;
}

FILE *popen(const char *command, const char *mode) {
  int fds[2], reads = *mode == 'r';
  if ((*mode != 'r' && *mode != 'w') || (mode[1] && strcmp(mode + 1, "e") != 0)) {
    errno = EINVAL;
    return NULL;
  }
  struct stream *stream = malloc(sizeof *stream);
  if (!stream || pipe2(fds, O_CLOEXEC) != 0) {
    free(stream);
    return NULL;
  }
  int mine = fds[reads ? 0 : 1], childs = fds[reads ? 1 : 0];
  int error = start(&stream->pid, command, childs, reads ? 1 : 0);
  close(childs);
  if (!error && !mode[1] && fcntl(mine, F_SETFD, 0) != 0) error = errno;
  stream->file = error ? NULL : fdopen(mine, reads ? "r" : "w");
  if (!stream->file) {
    if (!error) error = errno;
    close(mine);
    free(stream);
    errno = error;
    return NULL;
  }
  stream->next = streams;
  streams = stream;
  return stream->file;
}

int pclose(FILE *file) {
  for (struct stream **at = &streams; *at; at = &(*at)->next) {
    struct stream *stream = *at;
    if (stream->file != file) continue;
    *at = stream->next;
    pid_t pid = stream->pid;
    free(stream);
    fclose(file);
    return wait_for(pid);
  }
  errno = ECHILD;
  return -1;
}
