/* sh -c COMMAND [NAME ARGUMENT...] | sh FILE [ARGUMENT...] | sh
   Quoting, variables, $? $$ $! $1 $@ ${NAME:-word}, $(command), ; & && || | !, < > >> 2> 2>&1, * and ?, if, while,
   until, for, { } and ( ). No here-documents, functions, arithmetic, case, or job control. */
#include "sh.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct chunk {
  struct chunk *before;
  size_t start; /* of its bytes, counted over all chunks */
  size_t size;
  max_align_t bytes[];
};

static struct chunk *newest;
static size_t taken;

void *take(size_t size) {
  size = (size + sizeof(max_align_t) - 1) / sizeof(max_align_t) * sizeof(max_align_t);
  if (!newest || taken - newest->start + size > newest->size) {
    size_t room = size > 4096 ? size : 4096;
    struct chunk *chunk = malloc(sizeof *chunk + room);
    if (!chunk) {
      complain("out of memory");
      exit(2);
    }
    *chunk = (struct chunk){newest, taken, room};
    newest = chunk;
  }
  void *found = (char *)newest->bytes + (taken - newest->start);
  taken += size;
  return found;
}

char *take_text(const char *text, size_t len) {
  char *copy = take(len + 1);
  memcpy(copy, text, len);
  copy[len] = '\0';
  return copy;
}

size_t mark(void) { return taken; }

void release(size_t mark) {
  while (newest && newest->start >= mark && newest->before) {
    struct chunk *before = newest->before;
    free(newest);
    newest = before;
  }
  taken = mark;
}

void complain(const char *format, ...) {
  va_list arguments;
  fflush(stdout);
  fputs("sh: ", stderr);
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fputc('\n', stderr);
}

static char *read_file(int fd) {
  size_t len = 0, cap = 4096;
  char *text = malloc(cap);
  for (ssize_t got = 1; text && got;) {
    if (len + 1 == cap) text = realloc(text, cap *= 2);
    got = text ? read(fd, text + len, cap - len - 1) : 0;
    if (got < 0 && errno != EINTR) break;
    if (got > 0) len += (size_t)got;
  }
  if (text) text[len] = '\0';
  return text;
}

/* Line by line, byte by byte: what a command does not take from the input is the shell's, and the other way round. */
static int run_input(void) {
  size_t len = 0, cap = 256;
  char *text = malloc(cap), c;
  ssize_t got;
  while (text && !leaving) {
    while ((got = read(0, &c, 1)) != 0 && (got == 1 || errno == EINTR)) {
      if (got < 0) continue;
      if (len + 2 > cap) text = realloc(text, cap *= 2);
      text[len++] = c;
      if (c == '\n') break;
    }
    text[len] = '\0';
    const char *at = text;
    int failure = 0;
    size_t here = mark();
    const struct node *node = len ? parse(&at, &failure) : NULL;
    if (failure == 1 && got == 1) continue; /* more lines belong to it */
    if (failure == 1) complain("syntax error: the input ends too early");
    if (failure) last_status = 2;
    else run(node);
    release(here);
    len = 0;
    if (got != 1) break;
  }
  free(text);
  return last_status;
}

static int run_file(const char *path) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  char *text = fd < 0 ? NULL : read_file(fd);
  if (!text) {
    complain("cannot open %s: %s", path, strerror(errno));
    return errno == ENOENT ? 127 : 126;
  }
  close(fd);
  return run_text(text);
}

int main(int argc, char **argv) {
  (void)argc;
  for (char **each = environ; *each; each++) {
    char *equals = strchr(*each, '=');
    if (equals) set_variable(take_text(*each, (size_t)(equals - *each)), equals + 1, 1);
  }
  shell_pid = getpid();
  if (argv[1] && strcmp(argv[1], "-c") == 0) {
    if (!argv[2]) {
      complain("-c needs a command");
      return 2;
    }
    static char *only[] = {"sh", NULL};
    positional = argv[3] ? argv + 3 : only;
    run_text(argv[2]);
  } else if (argv[1]) {
    positional = argv + 1;
    last_status = run_file(argv[1]);
  } else {
    positional = argv;
    run_input();
  }
  fflush(stdout);
  return last_status;
}
