/* Running a tree. Descriptors are changed in the shell itself, children inherit them, and then they are put back. */
#include "sh.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

int leaving, breaking, continuing;

enum { FIRST_SAVED = 10, CANNOT_RUN = 126, NOT_FOUND = 127, MAX_SAVED = 16 };

struct saved {
  int fd, copy; /* -1: it was closed */
};

struct frame {
  struct saved all[MAX_SAVED];
  int count;
};

static int save(struct frame *frame, int fd) {
  if (frame->count == MAX_SAVED) return -1;
  frame->all[frame->count++] = (struct saved){fd, fcntl(fd, F_DUPFD_CLOEXEC, FIRST_SAVED)};
  return 0;
}

static void restore(struct frame *frame) {
  fflush(stdout);
  while (frame->count) {
    const struct saved *each = &frame->all[--frame->count];
    if (each->copy >= 0) dup2(each->copy, each->fd);
    close(each->copy >= 0 ? each->copy : each->fd);
  }
}

/* Put `fd` in the place of `target`; `fd` is closed. */
static int redirect(struct frame *frame, int fd, int target) {
  if (fd == target) return fcntl(fd, F_SETFD, 0);
  if (save(frame, target) != 0 || dup2(fd, target) < 0) return -1;
  return close(fd);
}

static int duplicate(struct frame *frame, int target, const char *source) {
  if (strcmp(source, "-") == 0) {
    if (save(frame, target) != 0) return -1;
    close(target);
    return 0;
  }
  char *end;
  int fd = (int)strtol(source, &end, 10);
  if (*end || !*source) {
    errno = EBADF;
    return -1;
  }
  int copy = fcntl(fd, F_DUPFD_CLOEXEC, FIRST_SAVED);
  return copy < 0 ? -1 : redirect(frame, copy, target);
}

/* 0, or -1 after a message. */
static int apply(struct frame *frame, const struct redirection *each) {
  fflush(stdout);
  for (; each; each = each->next) {
    const char *target = expand_one(each->target);
    int flags = each->operator[0] == '<' ? O_RDONLY : O_WRONLY | O_CREAT | (each->operator[1] ? O_APPEND : O_TRUNC);
    int failed;
    if (each->operator[1] == '&') {
      failed = duplicate(frame, each->fd, target);
    } else {
      int fd = open(target, flags | O_CLOEXEC, 0666);
      failed = fd < 0 ? -1 : redirect(frame, fd, each->fd);
    }
    if (failed) {
      complain("cannot %s %s: %s", each->operator[0] == '<' ? "open" : "create", target, strerror(errno));
      return -1;
    }
  }
  return 0;
}

int exit_status(int status, int say) {
  if (WIFEXITED(status)) return WEXITSTATUS(status);
  int sig = WTERMSIG(status);
  if (say && sig != SIGINT && sig != SIGPIPE) fprintf(stderr, "%s\n", strsignal(sig));
  return 128 + sig;
}

static int wait_for(pid_t pid) {
  int status;
  while (waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) return NOT_FOUND;
  return exit_status(status, 1);
}

static int cannot_run(const char *name, int error) {
  if (error == ENOENT) complain("%s: not found", name);
  else complain("%s: %s", name, strerror(error));
  return error == ENOENT ? NOT_FOUND : CANNOT_RUN;
}

/* A file that is executable and no program is a script. */
static int spawn_script(pid_t *pid, char **argv, char **env) {
  size_t count = 0;
  while (argv[count]) count++;
  char **words = take((count + 2) * sizeof *words);
  words[0] = "sh";
  for (size_t i = 0; i <= count; i++) words[i + 1] = argv[i];
  return posix_spawn(pid, "/bin/sh", NULL, NULL, words, env);
}

static int spawn(pid_t *pid, char **argv, char **env) {
  int error = posix_spawnp(pid, argv[0], NULL, NULL, argv, env);
  return error == ENOEXEC && strchr(argv[0], '/') ? spawn_script(pid, argv, env) : error;
}

/* A second shell with the variables and arguments of this one: what other shells fork for. */
int spawn_shell(const char *text, size_t len, pid_t *pid) {
  size_t count = 0;
  while (positional[0] && positional[count + 1]) count++;
  char **argv = take((count + 5) * sizeof *argv);
  argv[0] = "sh";
  argv[1] = "-c";
  argv[2] = take_text(text, len);
  argv[3] = positional[0] ? positional[0] : "sh";
  for (size_t i = 0; i <= count; i++) argv[i + 4] = positional[0] ? positional[i + 1] : NULL;
  fflush(stdout);
  return posix_spawn(pid, "/bin/sh", NULL, NULL, argv, exported_variables(NULL, 1));
}

static void assign(const struct word *each, int exported) {
  for (; each; each = each->next) {
    char *text = expand_one(each->text), *equals = strchr(text, '=');
    *equals = '\0';
    set_variable(text, equals + 1, exported);
  }
}

/* Start a command without waiting: the command itself if it is a program, else a second shell. 0, or its status. */
static int start(const struct node *node, pid_t *pid) {
  struct frame frame = {.count = 0};
  int status = 0, error;
  char **argv = node->kind == COMMAND ? expand_all(node->words) : NULL;
  if (node->kind != SUBSHELL && (!argv || !argv[0] || find_builtin(argv[0]))) {
    error = spawn_shell(node->source, node->source_len, pid); /* its redirections are in the text */
    return error ? cannot_run("sh", error) : 0;
  }
  if (apply(&frame, node->redirections) != 0) status = 1;
  else if (!argv) status = (error = spawn_shell(node->source, node->source_len, pid)) ? cannot_run("sh", error) : 0;
  else if ((error = spawn(pid, argv, exported_variables(node->assignments, 0))) != 0) status = cannot_run(argv[0], error);
  restore(&frame);
  return status;
}

static int run_command(const struct node *node) {
  struct frame frame = {.count = 0};
  char **argv = expand_all(node->words);
  int (*builtin)(char **) = argv[0] ? find_builtin(argv[0]) : NULL, status = 0;
  if (argv[0] && !builtin) {
    pid_t pid;
    status = start(node, &pid);
    return status ? status : wait_for(pid);
  }
  assign(node->assignments, -1);
  if (apply(&frame, node->redirections) != 0) {
    restore(&frame);
    return 1;
  }
  if (builtin) status = builtin(argv);
  if (argv[0] && strcmp(argv[0], "exec") == 0 && !argv[1]) frame.count = 0; /* its redirections stay */
  restore(&frame);
  return argv[0] ? status : 0;
}

static int run_pipeline(const struct node *node) {
  struct frame frame = {.count = 0};
  pid_t pids[64];
  int count = 0, fds[2] = {-1, -1}, input = -1, status = 0, last = 0;
  for (; node && count < 64; node = last ? NULL : node->second) {
    const struct node *stage = node->kind == PIPE ? node->first : node;
    last = node->kind != PIPE;
    if (!last && pipe2(fds, O_CLOEXEC) != 0) {
      complain("cannot make a pipe: %s", strerror(errno));
      return 1;
    }
    if (input >= 0) redirect(&frame, input, 0);
    if (!last) redirect(&frame, fds[1], 1);
    pids[count] = 0;
    status = start(stage, &pids[count++]);
    restore(&frame);
    input = fds[0];
  }
  for (int i = 0; i < count; i++)
    if (pids[i] > 0 && (last = wait_for(pids[i]), i == count - 1)) status = last;
  return status;
}

static int run_loop(const struct node *node) {
  int status = 0;
  while (!leaving) {
    size_t here = mark();
    int condition = run(node->first);
    if ((condition == 0) != (node->kind == WHILE) || leaving) break;
    status = run(node->second);
    release(here);
    if (continuing && --continuing) break;
    if (breaking && breaking--) break;
  }
  return status;
}

static int run_for(const struct node *node) {
  int status = 0;
  char **values = node->words->next ? expand_all(node->words->next) : positional[0] ? positional + 1 : positional;
  for (; *values && !leaving; values++) {
    size_t here = mark();
    set_variable(node->words->text, *values, -1);
    status = run(node->second);
    release(here);
    if (continuing && --continuing) break;
    if (breaking && breaking--) break;
  }
  return status;
}

static int run_subshell(const struct node *node) {
  pid_t pid;
  int status = start(node, &pid);
  return status ? status : wait_for(pid);
}

static int run_background(const struct node *node) {
  pid_t pid;
  int status = start(node, &pid);
  if (status == 0) last_background = pid;
  return status;
}

static int run_compound(const struct node *node) {
  switch (node->kind) {
    case IF:
      if (run(node->first) == 0) return run(node->second);
      return node->third ? run(node->third) : 0;
    case WHILE:
    case UNTIL:
      return run_loop(node);
    case FOR:
      return run_for(node);
    default:
      return run(node->first);
  }
}

static int run_redirected(const struct node *node) {
  struct frame frame = {.count = 0};
  int status = apply(&frame, node->redirections) == 0 ? run_compound(node) : 1;
  restore(&frame);
  return status;
}

int run(const struct node *node) {
  if (!node || leaving || breaking || continuing) return last_status;
  size_t here = mark();
  switch (node->kind) {
    case COMMAND: last_status = run_command(node); break;
    case PIPE: last_status = run_pipeline(node); break;
    case NOT: last_status = !run(node->first); break;
    case BACKGROUND: last_status = run_background(node->first); break;
    case AND: run(node->first) == 0 ? run(node->second) : 0; break;
    case OR: run(node->first) == 0 ? 0 : run(node->second); break;
    case SEQUENCE: run(node->first), run(node->second); break;
    case SUBSHELL: last_status = run_subshell(node); break;
    default: last_status = run_redirected(node);
  }
  release(here);
  return last_status;
}

int run_text(const char *text) {
  int failure = 0;
  while (*text && !leaving) {
    size_t here = mark();
    const struct node *node = parse(&text, &failure);
    if (failure == 1) complain("syntax error: the text ends too early");
    if (failure) return last_status = 2;
    run(node);
    release(here);
  }
  return last_status;
}
