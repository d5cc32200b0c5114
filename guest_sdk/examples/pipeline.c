/* Three stages in one pipeline: each is this program again, with another first argument.
   usage: pipeline [COUNT]   prints how many of the numbers 1 to COUNT have a digit 7 */
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int count_up(long top) {
  for (long i = 1; i <= top; i++) printf("%ld\n", i);
  return 0;
}

static int keep_sevens(void) {
  char line[64];
  while (fgets(line, sizeof line, stdin))
    if (strchr(line, '7')) fputs(line, stdout);
  return 0;
}

static int count_lines(void) {
  long lines = 0;
  for (int c; (c = getchar()) != EOF;) lines += c == '\n';
  printf("%ld\n", lines);
  return 0;
}

/* Start one stage that reads from `in` and writes to `out`. Both are closed here; -1 leaves the stream as it is. */
static pid_t start(const char *self, const char *stage, const char *argument, int in, int out) {
  char *argv[] = {(char *)self, (char *)stage, (char *)argument, NULL};
  posix_spawn_file_actions_t actions;
  pid_t pid;
  posix_spawn_file_actions_init(&actions);
  if (in >= 0) posix_spawn_file_actions_adddup2(&actions, in, 0);
  if (out >= 0) posix_spawn_file_actions_adddup2(&actions, out, 1);
  posix_spawn_file_actions_addclosefrom_np(&actions, 3); /* the pipes themselves: else no reader sees the end */
  int error = posix_spawnp(&pid, self, &actions, NULL, argv, environ);
  posix_spawn_file_actions_destroy(&actions);
  if (in >= 0) close(in);
  if (out >= 0) close(out);
  if (error == 0) return pid;
  fprintf(stderr, "pipeline: %s: %s\n", self, strerror(error));
  exit(1);
}

static int run(const char *self, const char *count) {
  int first[2], second[2], failures = 0, status;
  if (pipe(first) != 0 || pipe(second) != 0) {
    perror("pipeline: pipe");
    return 1;
  }
  start(self, "--count-up", count, -1, first[1]);
  start(self, "--keep-sevens", "", first[0], second[1]);
  start(self, "--count-lines", "", second[0], -1);
  while (wait(&status) > 0)
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) failures++;
  return failures != 0;
}

int main(int argc, char **argv) {
  const char *stage = argc > 1 ? argv[1] : "1000";
  if (strcmp(stage, "--count-up") == 0) return count_up(atol(argv[2]));
  if (strcmp(stage, "--keep-sevens") == 0) return keep_sevens();
  if (strcmp(stage, "--count-lines") == 0) return count_lines();
  return run(argv[0], stage);
}
