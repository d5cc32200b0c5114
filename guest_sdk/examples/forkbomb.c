/* Starts copies of itself that wait, until the VM has no more room for a process; then lets them go and reaps all.
   Prints how many there were and what stopped it, and exits with 0: the cap held, and this program can tell. */
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int wait_for_the_end(void) {
  char byte;
  while (read(0, &byte, 1) > 0) {}
  return 0;
}

int main(int argc, char **argv) {
  char *child[] = {argv[0], "--wait", NULL};
  posix_spawn_file_actions_t actions;
  int ends[2], error, started = 0, reaped = 0, status;
  pid_t pid;
  if (argc > 1 && strcmp(argv[1], "--wait") == 0) return wait_for_the_end();
  if (pipe(ends) != 0) {
    perror("forkbomb: pipe");
    return 1;
  }
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[0], 0);
  posix_spawn_file_actions_addclosefrom_np(&actions, 3); /* a child that held the other end would wait for ever */
  while ((error = posix_spawnp(&pid, argv[0], &actions, NULL, child, environ)) == 0) started++;
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  while (wait(&status) > 0) reaped++;
  printf("started %d, then: %s (%s)\nreaped %d\n", started, error == EAGAIN ? "EAGAIN" : "another error", strerror(error),
         reaped);
  return error == EAGAIN && reaped == started ? 0 : 1;
}
