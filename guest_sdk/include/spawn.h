/* <spawn.h>: musl's declarations, and what is newer than they are. */
#ifndef AGENTVM_SPAWN_H
#define AGENTVM_SPAWN_H

#pragma GCC system_header

#include <signal.h>
#include <sys/types.h>
#include_next <spawn.h>

#ifdef __cplusplus
extern "C" {
#endif

int posix_spawn_file_actions_addchdir(posix_spawn_file_actions_t *__restrict, const char *__restrict);
int posix_spawn_file_actions_addfchdir(posix_spawn_file_actions_t *, int);
int posix_spawn_file_actions_addchdir_np(posix_spawn_file_actions_t *__restrict, const char *__restrict);
int posix_spawn_file_actions_addfchdir_np(posix_spawn_file_actions_t *, int);
int posix_spawn_file_actions_addclosefrom_np(posix_spawn_file_actions_t *, int);

#ifdef __cplusplus
}
#endif

#endif
