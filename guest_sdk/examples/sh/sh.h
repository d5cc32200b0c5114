/* A small POSIX-like shell without fork: what cannot be spawned as a program runs in a second shell, as text. */
#ifndef SH_H
#define SH_H

#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

/* Memory in the order of its use: what was taken after a mark is given back at once. */
void *take(size_t size);
char *take_text(const char *text, size_t len);
size_t mark(void);
void release(size_t mark);

enum kind { COMMAND, PIPE, AND, OR, SEQUENCE, BACKGROUND, NOT, IF, WHILE, UNTIL, FOR, GROUP, SUBSHELL };

struct word {
  const char *text; /* as it was written, with its quotes */
  struct word *next;
};

struct redirection {
  int fd;
  char operator[3]; /* "<" ">" ">>" "<&" ">&" */
  const char *target;
  struct redirection *next;
};

struct node {
  enum kind kind;
  const char *source; /* the text that it was read from, for a second shell */
  size_t source_len;
  struct word *assignments, *words; /* COMMAND; FOR: the name first */
  struct redirection *redirections;
  struct node *first, *second, *third; /* IF: condition, then, else */
};

/* parse.c. NULL at the end of the text (*status 0), or when it ends too early (1) or is wrong (2, after a message). */
struct node *parse(const char **text, int *status);

/* expand.c */
char **expand_all(const struct word *words);   /* fields, split and globbed; ends with NULL */
char *expand_one(const char *word);            /* one string */
const char *get_variable(const char *name);
void set_variable(const char *name, const char *value, int exported); /* exported -1: as it was */
void unset_variable(const char *name);
char **exported_variables(const struct word *more, int all);
size_t name_length(const char *text);
extern char **positional; /* $0 and the arguments */
extern int last_status, shell_pid, last_background;

/* run.c */
int run(const struct node *node);
int run_text(const char *text);
int exit_status(int status, int say);
int spawn_shell(const char *text, size_t len, pid_t *pid);
int execute(char **argv);
void complain(const char *format, ...) __attribute__((__format__(__printf__, 1, 2)));
extern int leaving, breaking, continuing; /* by exit, break and continue */

/* builtins.c. NULL if the name is not one. */
int (*find_builtin(const char *name))(char **argv);

#endif
