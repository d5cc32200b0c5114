/* Runs the lines of its input as shell commands, several at once, and reports how each ended.
   usage: job_runner [-j AT_ONCE] [-t SECONDS] < commands
   A job that takes longer than SECONDS gets SIGTERM, and SIGKILL a second later; it runs in a process group of its own,
   so that what it started goes with it. */
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_AT_ONCE 32

struct job {
  pid_t pid; /* 0: a free place */
  int number, warned;
  double deadline;
  char command[1024];
};

static struct job jobs[MAX_AT_ONCE];
static double timeout = 10;
static int failures;

static void wake(int sig) { (void)sig; } /* only to end a sleep */

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static int start(struct job *job, int number, const char *command) {
  char *argv[] = {"sh", "-c", job->command, NULL};
  posix_spawnattr_t attr;
  sigset_t none;
  snprintf(job->command, sizeof job->command, "%s", command);
  sigemptyset(&none);
  posix_spawnattr_init(&attr);
  posix_spawnattr_setsigmask(&attr, &none); /* this program blocks SIGCHLD; its jobs should not */
  posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK);
  int error = posix_spawn(&job->pid, "/bin/sh", NULL, &attr, argv, environ);
  posix_spawnattr_destroy(&attr);
  if (error != 0) {
    printf("[%d] not started: %s\n", number, strerror(error));
    job->pid = 0;
    failures++;
    return 0;
  }
  job->number = number;
  job->warned = 0;
  job->deadline = now() + timeout;
  return 1;
}

static void report(const struct job *job, int status) {
  if (WIFSIGNALED(status)) printf("[%d] signal %d (%s)", job->number, WTERMSIG(status), strsignal(WTERMSIG(status)));
  else printf("[%d] exit %d", job->number, WEXITSTATUS(status));
  printf("%s: %s\n", job->warned ? " after a timeout" : "", job->command);
  fflush(stdout);
  failures += status != 0;
}

static int reap(void) {
  int status, ended = 0;
  pid_t pid;
  while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
    for (struct job *job = jobs; job < jobs + MAX_AT_ONCE; job++) {
      if (job->pid != pid) continue;
      report(job, status);
      job->pid = 0;
      ended++;
    }
  }
  return ended;
}

/* Signal what is late; the seconds until the next deadline, at most a minute. */
static double enforce(void) {
  double next = 60, time = now();
  for (struct job *job = jobs; job < jobs + MAX_AT_ONCE; job++) {
    if (job->pid == 0) continue;
    if (job->deadline <= time) {
      kill(-job->pid, job->warned ? SIGKILL : SIGTERM);
      job->warned = 1;
      job->deadline = time + 1;
    }
    if (job->deadline - time < next) next = job->deadline - time;
  }
  return next;
}

/* SIGCHLD is blocked but here, so none is lost between the look and the sleep. */
static void sleep_until_something(double seconds) {
  sigset_t child;
  struct timespec time = {.tv_sec = (time_t)seconds, .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  sigtimedwait(&child, NULL, &time);
}

static void run(int at_once) {
  char line[1024];
  int running = 0, number = 0, more = 1;
  while (more || running) {
    while (more && running < at_once) {
      struct job *job = jobs;
      while (job->pid) job++;
      more = fgets(line, sizeof line, stdin) != NULL;
      line[strcspn(line, "\n")] = '\0';
      if (more && *line && *line != '#') running += start(job, ++number, line);
    }
    running -= reap();
    double rest = enforce();
    if (running && (!more || running == at_once)) sleep_until_something(rest);
  }
}

int main(int argc, char **argv) {
  int option, at_once = 4;
  sigset_t child;
  while ((option = getopt(argc, argv, "j:t:")) != -1) {
    if (option == 'j') at_once = atoi(optarg);
    else if (option == 't') timeout = atof(optarg);
    else return 2;
  }
  if (at_once < 1 || at_once > MAX_AT_ONCE) {
    fprintf(stderr, "job_runner: -j takes 1 to %d\n", MAX_AT_ONCE);
    return 2;
  }
  struct sigaction action = {.sa_handler = wake};
  sigaction(SIGCHLD, &action, NULL);
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  sigprocmask(SIG_BLOCK, &child, NULL);
  run(at_once);
  printf("%s\n", failures ? "some jobs failed" : "all jobs succeeded");
  return failures != 0;
}
