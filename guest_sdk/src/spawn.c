/* <spawn.h>: file actions and attributes. The actions are kept as the host reads them: for each a header of six
   words (command, fd, source fd, open flags, mode, path length) and the path, without padding. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

enum { CLOSE = 1, DUP2, OPEN, CHDIR, FCHDIR, CLOSE_FROM };

struct record {
  uint32_t command;
  int32_t fd, source;
  uint32_t flags, mode, path_len;
};

#define used __pad0[0]
#define size __pad0[1]

static int append(posix_spawn_file_actions_t *actions, struct record record, const char *path) {
  record.path_len = path ? (uint32_t)strlen(path) : 0;
  size_t end = (size_t)actions->used + sizeof record + record.path_len;
  if (end > (size_t)actions->size) {
    char *bigger = realloc(actions->__actions, end * 2);
    if (!bigger) return ENOMEM;
    actions->__actions = bigger;
    actions->size = (int)(end * 2);
  }
  char *at = (char *)actions->__actions + actions->used;
  memcpy(at, &record, sizeof record);
  if (path) memcpy(at + sizeof record, path, record.path_len);
  actions->used = (int)end;
  return 0;
}

int posix_spawn_file_actions_init(posix_spawn_file_actions_t *actions) {
  memset(actions, 0, sizeof *actions);
  return 0;
}

int posix_spawn_file_actions_destroy(posix_spawn_file_actions_t *actions) {
  free(actions->__actions);
  memset(actions, 0, sizeof *actions);
  return 0;
}

int posix_spawn_file_actions_addclose(posix_spawn_file_actions_t *actions, int fd) {
  return fd < 0 ? EBADF : append(actions, (struct record){.command = CLOSE, .fd = fd}, NULL);
}

int posix_spawn_file_actions_adddup2(posix_spawn_file_actions_t *actions, int fd, int target) {
  if (fd < 0 || target < 0) return EBADF;
  return append(actions, (struct record){.command = DUP2, .fd = target, .source = fd}, NULL);
}

int posix_spawn_file_actions_addopen(posix_spawn_file_actions_t *restrict actions, int fd, const char *restrict path,
                                     int flags, mode_t mode) {
  struct record record = {.command = OPEN, .fd = fd, .flags = (uint32_t)(flags & ~O_CLOEXEC), .mode = mode & 07777};
  if (fd < 0) return EBADF;
  int error = append(actions, record, path);
  /* The program that starts would not see it. */
  return error || !(flags & O_CLOEXEC) ? error : posix_spawn_file_actions_addclose(actions, fd);
}

int posix_spawn_file_actions_addchdir_np(posix_spawn_file_actions_t *restrict actions, const char *restrict path) {
  return append(actions, (struct record){.command = CHDIR}, path);
}

int posix_spawn_file_actions_addfchdir_np(posix_spawn_file_actions_t *actions, int fd) {
  return fd < 0 ? EBADF : append(actions, (struct record){.command = FCHDIR, .fd = fd}, NULL);
}

int posix_spawn_file_actions_addclosefrom_np(posix_spawn_file_actions_t *actions, int fd) {
  return fd < 0 ? EBADF : append(actions, (struct record){.command = CLOSE_FROM, .fd = fd}, NULL);
}

int posix_spawn_file_actions_addchdir(posix_spawn_file_actions_t *restrict actions, const char *restrict path) {
  return posix_spawn_file_actions_addchdir_np(actions, path);
}

int posix_spawn_file_actions_addfchdir(posix_spawn_file_actions_t *actions, int fd) {
  return posix_spawn_file_actions_addfchdir_np(actions, fd);
}

/* Where the actions leave the child: `cwd` (PATH_MAX bytes) is written; 0 if that cannot be known here. */
static int child_cwd(const posix_spawn_file_actions_t *actions, char *cwd) {
  strcpy(cwd, __agentvm_cwd());
  struct record record;
  for (int at = 0; actions && at < actions->used; at += (int)(sizeof record + record.path_len)) {
    const char *path = (char *)actions->__actions + at + sizeof record;
    memcpy(&record, path - sizeof record, sizeof record);
    if (record.command == FCHDIR) return 0;
    if (record.command != CHDIR) continue;
    size_t len = record.path_len && *path == '/' ? 0 : strlen(cwd);
    if (len + 1 + record.path_len >= PATH_MAX) return 0;
    if (len) cwd[len++] = '/';
    memcpy(cwd + len, path, record.path_len);
    cwd[len + record.path_len] = '\0';
  }
  return 1;
}

static int spawn(pid_t *restrict pid, const char *restrict file, const posix_spawn_file_actions_t *actions,
                 const posix_spawnattr_t *restrict attr, char *const argv[], char *const env[], const char *search) {
  static const posix_spawnattr_t plain;
  char cwd[PATH_MAX];
  int32_t child = 0, error = ENOMEM;
  size_t argv_len, env_len;
  if (!attr) attr = &plain;
  int known = child_cwd(actions, cwd);
  char *argv_block = __agentvm_block(argv, &argv_len);
  char *env_block = __agentvm_environ_block(env, known ? cwd : NULL, 0, &env_len);
  const char *here = __agentvm_cwd();
  if (argv_block && env_block)
    error = abi_spawn(file, strlen(file), argv_block, argv_len, env_block, env_len, actions ? actions->__actions : NULL,
                      actions ? (size_t)actions->used : 0, here, strlen(here), search, search ? strlen(search) : 0,
                      (uint32_t)attr->__flags, low(&attr->__def), high(&attr->__def), low(&attr->__mask),
                      high(&attr->__mask), attr->__pgrp, attr->__pol, attr->__prio, &child);
  free(argv_block);
  free(env_block);
  if (error == 0 && pid) *pid = child;
  return error;
}

int posix_spawn(pid_t *restrict pid, const char *restrict path, const posix_spawn_file_actions_t *actions,
                const posix_spawnattr_t *restrict attr, char *const argv[restrict], char *const env[restrict]) {
  return spawn(pid, path, actions, attr, argv, env, NULL);
}

int posix_spawnp(pid_t *restrict pid, const char *restrict file, const posix_spawn_file_actions_t *actions,
                 const posix_spawnattr_t *restrict attr, char *const argv[restrict], char *const env[restrict]) {
  const char *search = getenv("PATH");
  return spawn(pid, file, actions, attr, argv, env, search ? search : "/bin:/usr/bin");
}
