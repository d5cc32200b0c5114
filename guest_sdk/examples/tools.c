/* Small commands in one program, by the name it is called with: tools NAME ARGUMENT..., or a link called NAME.
   true false echo cat sleep wc env pwd yes head kill */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *name;

static int fail(const char *what) {
  fprintf(stderr, "%s: %s: %s\n", name, what, strerror(errno));
  return 1;
}

/* A write that fails, say for want of a reader, shows here at the latest. */
static int finish(void) { return fflush(stdout) == 0 && !ferror(stdout) ? 0 : fail("write"); }

static int do_true(char **argv) {
  (void)argv;
  return 0;
}

static int do_false(char **argv) {
  (void)argv;
  return 1;
}

static int do_echo(char **argv) {
  int newline = !(argv[1] && strcmp(argv[1], "-n") == 0);
  for (char **word = argv + 2 - newline; *word; word++) printf("%s%s", *word, word[1] ? " " : "");
  if (newline) putchar('\n');
  return finish();
}

static int copy(int fd, const char *path) {
  static char data[65536];
  ssize_t got;
  while ((got = read(fd, data, sizeof data)) != 0) {
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail(path);
    for (ssize_t sent = 0; sent < got;) {
      ssize_t more = write(1, data + sent, (size_t)(got - sent));
      if (more < 0 && errno != EINTR) return fail("write");
      if (more > 0) sent += more;
    }
  }
  return 0;
}

static int do_cat(char **argv) {
  int status = argv[1] ? 0 : copy(0, "stdin");
  for (char **path = argv + 1; *path; path++) {
    int fd = strcmp(*path, "-") == 0 ? 0 : open(*path, O_RDONLY);
    status |= fd < 0 ? fail(*path) : copy(fd, *path);
    if (fd > 0) close(fd);
  }
  return status;
}

static int do_sleep(char **argv) {
  double seconds = argv[1] ? atof(argv[1]) : 0;
  struct timespec rest = {.tv_sec = (time_t)seconds, .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
  while (nanosleep(&rest, &rest) != 0 && errno == EINTR) {}
  return 0;
}

static int do_wc(char **argv) {
  long lines = 0, words = 0, bytes = 0, inside = 0;
  FILE *in = argv[1] && argv[1][0] != '-' ? fopen(argv[1], "r") : stdin;
  if (!in) return fail(argv[1]);
  for (int c; (c = getc(in)) != EOF; bytes++) {
    int space = c == ' ' || c == '\n' || c == '\t';
    lines += c == '\n';
    words += inside && space;
    inside = !space;
  }
  words += inside;
  if (argv[1] && strcmp(argv[1], "-l") == 0) printf("%ld\n", lines);
  else if (argv[1] && strcmp(argv[1], "-c") == 0) printf("%ld\n", bytes);
  else printf("%ld %ld %ld\n", lines, words, bytes);
  return finish();
}

static int do_env(char **argv) {
  for (argv++; *argv && strchr(*argv, '='); argv++) putenv(*argv);
  if (*argv) {
    execvp(*argv, argv);
    fail(*argv);
    return errno == ENOENT ? 127 : 126;
  }
  for (char **each = environ; *each; each++) puts(*each);
  return finish();
}

static int do_pwd(char **argv) {
  (void)argv;
  char *now = getcwd(NULL, 0);
  if (!now) return fail("getcwd");
  puts(now);
  return finish();
}

static int do_yes(char **argv) {
  while (printf("%s\n", argv[1] ? argv[1] : "y") > 0) {}
  return finish();
}

static int do_head(char **argv) {
  long lines = argv[1] && strcmp(argv[1], "-n") == 0 && argv[2] ? atol(argv[2]) : argv[1] ? atol(argv[1] + 1) : 10;
  for (int c; lines > 0 && (c = getchar()) != EOF; lines -= c == '\n') putchar(c);
  return finish();
}

static int do_kill(char **argv) {
  int sig = SIGTERM, status = 0;
  if (argv[1] && argv[1][0] == '-') sig = atoi(*++argv + 1);
  for (argv++; *argv; argv++)
    if (kill((pid_t)atol(*argv), sig) != 0) status = fail(*argv);
  return status;
}

int main(int argc, char **argv) {
  static const struct {
    const char *name;
    int (*run)(char **argv);
  } all[] = {{"true", do_true},   {"false", do_false}, {"echo", do_echo}, {"cat", do_cat},
             {"sleep", do_sleep}, {"wc", do_wc},       {"env", do_env},   {"pwd", do_pwd},
             {"yes", do_yes},     {"head", do_head},   {"kill", do_kill}};
  for (int skip = 0; skip < 2 && skip < argc; skip++) {
    char *slash = strrchr(argv[skip], '/');
    name = slash ? slash + 1 : argv[skip];
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
      if (strcmp(name, all[i].name) == 0) return all[i].run(argv + skip);
  }
  fprintf(stderr, "usage: tools NAME ARGUMENT...   NAME is one of");
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) fprintf(stderr, " %s", all[i].name);
  fprintf(stderr, "\n");
  return 2;
}
