/* The commands that a shell has in itself. */
#include "sh.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

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
  return fflush(stdout) == 0 ? 0 : 1;
}

static int do_cd(char **argv) {
  const char *to = argv[1] ? argv[1] : get_variable("HOME");
  char *now;
  if (!to || chdir(to) != 0) {
    complain("cd: %s: %s", to ? to : "HOME", to ? strerror(errno) : "not set");
    return 1;
  }
  now = getcwd(NULL, 0);
  if (get_variable("PWD")) set_variable("OLDPWD", get_variable("PWD"), -1);
  set_variable("PWD", now ? now : to, 1);
  free(now);
  return 0;
}

static int do_pwd(char **argv) {
  (void)argv;
  char *now = getcwd(NULL, 0);
  puts(now ? now : "?");
  free(now);
  return fflush(stdout) == 0 ? 0 : 1;
}

static int do_exit(char **argv) {
  leaving = 1;
  return argv[1] ? atoi(argv[1]) & 255 : last_status;
}

static int loop_count(char **argv) { return argv[1] && atoi(argv[1]) > 0 ? atoi(argv[1]) : 1; }

static int do_break(char **argv) {
  breaking = loop_count(argv);
  return 0;
}

static int do_continue(char **argv) {
  continuing = loop_count(argv);
  return 0;
}

static int do_export(char **argv) {
  int status = 0;
  for (char **word = argv + 1; *word; word++) {
    size_t len = name_length(*word);
    if (len == 0 || ((*word)[len] && (*word)[len] != '=')) {
      complain("export: %s: bad variable name", *word);
      status = 1;
      continue;
    }
    const char *value = (*word)[len] ? *word + len + 1 : NULL;
    set_variable(take_text(*word, len), value, 1);
  }
  return status;
}

static int do_unset(char **argv) {
  while (*++argv) unset_variable(*argv);
  return 0;
}

static int do_shift(char **argv) {
  (void)argv;
  if (!positional[0] || !positional[1]) return 1;
  for (char **at = positional + 1; (*at = at[1]); at++) {}
  return 0;
}

static int do_read(char **argv) {
  char line[LINE_MAX], c;
  size_t len = 0;
  ssize_t got;
  while ((got = read(0, &c, 1)) == 1 && c != '\n')
    if (len + 1 < sizeof line) line[len++] = c;
  line[len] = '\0';
  char *rest = line;
  for (char **name = argv + 1; *name; name++) {
    rest += strspn(rest, " \t");
    size_t part = name[1] ? strcspn(rest, " \t") : strlen(rest);
    while (!name[1] && part && strchr(" \t", rest[part - 1])) part--;
    set_variable(*name, take_text(rest, part), -1);
    rest += part;
  }
  return got == 1 ? 0 : 1;
}

static int do_wait(char **argv) {
  int status, last = 0;
  if (!argv[1]) {
    while (wait(&status) > 0 || errno == EINTR) {}
    return 0;
  }
  while (*++argv) {
    pid_t pid = (pid_t)atoi(*argv), got;
    while ((got = waitpid(pid, &status, 0)) < 0 && errno == EINTR) {}
    last = got == pid ? exit_status(status, 0) : 127;
  }
  return last;
}

static const struct {
  const char *name;
  int number;
} signals[] = {{"HUP", SIGHUP},   {"INT", SIGINT},   {"QUIT", SIGQUIT}, {"KILL", SIGKILL}, {"USR1", SIGUSR1},
               {"USR2", SIGUSR2}, {"PIPE", SIGPIPE}, {"ALRM", SIGALRM}, {"TERM", SIGTERM}, {"CHLD", SIGCHLD},
               {"CONT", SIGCONT}, {"STOP", SIGSTOP}, {"TSTP", SIGTSTP}, {"ABRT", SIGABRT}, {"SEGV", SIGSEGV}};

static int signal_number(const char *text) {
  if (isdigit((unsigned char)*text)) return atoi(text);
  if (strncmp(text, "SIG", 3) == 0) text += 3;
  for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
    if (strcmp(text, signals[i].name) == 0) return signals[i].number;
  return -1;
}

static int do_kill(char **argv) {
  int sig = SIGTERM, status = 0;
  argv++;
  if (*argv && **argv == '-' && strcmp(*argv, "--") != 0) {
    const char *name = strcmp(*argv, "-s") == 0 && argv[1] ? *++argv : *argv + 1;
    sig = signal_number(name);
    if (sig < 0) {
      complain("kill: %s: no such signal", name);
      return 2;
    }
    argv++;
  }
  if (*argv && strcmp(*argv, "--") == 0) argv++;
  for (; *argv; argv++) {
    if (kill((pid_t)atoi(*argv), sig) == 0) continue;
    complain("kill: %s: %s", *argv, strerror(errno));
    status = 1;
  }
  return status;
}

static int do_exec(char **argv) {
  if (!argv[1]) return 0;
  fflush(stdout);
  execvpe(argv[1], argv + 1, exported_variables(NULL, 0));
  complain("exec: %s: %s", argv[1], errno == ENOENT ? "not found" : strerror(errno));
  leaving = 1;
  return errno == ENOENT ? 127 : 126;
}

static int compare(const char *left, const char *operator, const char *right) {
  long a = atol(left), b = atol(right);
  if (strcmp(operator, "=") == 0) return strcmp(left, right) == 0;
  if (strcmp(operator, "!=") == 0) return strcmp(left, right) != 0;
  if (strcmp(operator, "-eq") == 0) return a == b;
  if (strcmp(operator, "-ne") == 0) return a != b;
  if (strcmp(operator, "-lt") == 0) return a < b;
  if (strcmp(operator, "-le") == 0) return a <= b;
  if (strcmp(operator, "-gt") == 0) return a > b;
  if (strcmp(operator, "-ge") == 0) return a >= b;
  return -1;
}

static int is_so(char kind, const char *path) {
  struct stat status;
  if (kind == 'n') return *path != '\0';
  if (kind == 'z') return *path == '\0';
  if (kind == 't') return isatty(atoi(path));
  if (kind == 'r') return access(path, R_OK) == 0;
  if (kind == 'w') return access(path, W_OK) == 0;
  if (kind == 'x') return access(path, X_OK) == 0;
  if ((kind == 'L' || kind == 'h' ? lstat : stat)(path, &status) != 0) return 0;
  switch (kind) {
    case 'e': return 1;
    case 'f': return S_ISREG(status.st_mode);
    case 'd': return S_ISDIR(status.st_mode);
    case 'p': return S_ISFIFO(status.st_mode);
    case 'S': return S_ISSOCK(status.st_mode);
    case 's': return status.st_size > 0;
    case 'L':
    case 'h': return S_ISLNK(status.st_mode);
    default: return -1;
  }
}

static int do_test(char **argv) {
  int count = 0, negate = 0, holds;
  while (argv[count]) count++;
  if (strcmp(argv[0], "[") == 0) {
    if (strcmp(argv[--count], "]") != 0) {
      complain("[: ']' is missing");
      return 2;
    }
  }
  argv++;
  count--;
  if (count > 1 && strcmp(argv[0], "!") == 0) {
    negate = 1;
    argv++;
    count--;
  }
  if (count == 0) holds = 0;
  else if (count == 1) holds = *argv[0] != '\0';
  else if (count == 2 && argv[0][0] == '-' && argv[0][1] && !argv[0][2]) holds = is_so(argv[0][1], argv[1]);
  else holds = count == 3 ? compare(argv[0], argv[1], argv[2]) : -1;
  if (holds < 0) {
    complain("test: cannot be understood");
    return 2;
  }
  return holds == negate;
}

int (*find_builtin(const char *name))(char **argv) {
  static const struct {
    const char *name;
    int (*run)(char **argv);
  } all[] = {{":", do_true},       {"true", do_true},         {"false", do_false},   {"echo", do_echo},
             {"cd", do_cd},        {"pwd", do_pwd},           {"exit", do_exit},     {"export", do_export},
             {"unset", do_unset},  {"shift", do_shift},       {"read", do_read},     {"wait", do_wait},
             {"kill", do_kill},    {"exec", do_exec},         {"test", do_test},     {"[", do_test},
             {"break", do_break},  {"continue", do_continue}};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++)
    if (strcmp(name, all[i].name) == 0) return all[i].run;
  return NULL;
}
