/* Variables, and what becomes of a word: $..., quotes, fields, file names. */
#include "sh.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct variable {
  char *name, *value;
  int exported;
};

static struct variable *variables;
static size_t variable_count;
char **positional;
int last_status, shell_pid, last_background;

size_t name_length(const char *text) {
  size_t len = 0;
  while (isalpha((unsigned char)text[len]) || text[len] == '_' || (len && isdigit((unsigned char)text[len]))) len++;
  return len;
}

static struct variable *find(const char *name) {
  for (size_t i = 0; i < variable_count; i++)
    if (strcmp(variables[i].name, name) == 0) return &variables[i];
  return NULL;
}

const char *get_variable(const char *name) {
  const struct variable *found = find(name);
  return found ? found->value : NULL;
}

void set_variable(const char *name, const char *value, int exported) {
  struct variable *variable = find(name);
  if (!variable) {
    variables = realloc(variables, (variable_count + 1) * sizeof *variables);
    variable = &variables[variable_count++];
    *variable = (struct variable){.name = strdup(name)};
  }
  if (value) {
    free(variable->value);
    variable->value = strdup(value);
  }
  if (exported >= 0) variable->exported = exported;
  if (strcmp(name, "PATH") == 0 && value) setenv(name, value, 1); /* posix_spawnp reads it from there */
}

void unset_variable(const char *name) {
  struct variable *variable = find(name);
  if (!variable) return;
  free(variable->name);
  free(variable->value);
  *variable = variables[--variable_count];
}

/* NAME=value strings, those of `more` last (expanded); all: unexported ones too. */
char **exported_variables(const struct word *more, int all) {
  size_t count = 0, extra = 0;
  for (const struct word *each = more; each; each = each->next) extra++;
  char **env = take((variable_count + extra + 1) * sizeof *env);
  for (const struct word *each = more; each; each = each->next) env[count++] = expand_one(each->text);
  for (size_t i = 0; i < variable_count; i++) {
    const struct variable *each = &variables[i];
    size_t len = strlen(each->name);
    int hidden = !each->value || !(each->exported || all);
    for (size_t k = 0; k < extra; k++) hidden |= strncmp(env[k], each->name, len) == 0 && env[k][len] == '=';
    if (hidden) continue;
    env[count] = take(len + strlen(each->value) + 2);
    sprintf(env[count++], "%s=%s", each->name, each->value);
  }
  env[count] = NULL;
  return env;
}

/* A field that grows: its text, and for each byte whether it was quoted (and so is no pattern). */
struct field {
  char *text, *quoted;
  size_t len, cap;
  int exists;
};

static void put(struct field *field, char c, int quoted) {
  if (field->len + 1 >= field->cap) {
    field->cap = field->cap * 2 + 64;
    field->text = realloc(field->text, field->cap);
    field->quoted = realloc(field->quoted, field->cap);
  }
  field->text[field->len] = c;
  field->quoted[field->len++] = (char)quoted;
  field->text[field->len] = '\0';
  field->exists = 1;
}

struct output {
  char **words;
  size_t count, cap;
  struct field field;
  int split;
};

static void add(struct output *out, char *word) {
  if (out->count + 2 > out->cap) {
    out->cap = out->cap * 2 + 8;
    out->words = realloc(out->words, out->cap * sizeof *out->words);
  }
  out->words[out->count++] = word;
}

/* The field as a pattern: names that match, sorted, or the field itself. */
static void finish(struct output *out) {
  struct field *field = &out->field;
  glob_t found;
  int pattern = 0;
  if (!field->exists) return;
  char *escaped = take(field->len * 2 + 1), *to = escaped;
  for (size_t i = 0; i < field->len; i++) {
    if (field->quoted[i] && strchr("*?[]\\", field->text[i])) *to++ = '\\';
    pattern |= !field->quoted[i] && strchr("*?[", field->text[i]);
    *to++ = field->text[i];
  }
  *to = '\0';
  if (out->split && pattern && glob(escaped, 0, NULL, &found) == 0) {
    for (size_t i = 0; i < found.gl_pathc; i++) add(out, take_text(found.gl_pathv[i], strlen(found.gl_pathv[i])));
    globfree(&found);
  } else {
    add(out, take_text(field->len ? field->text : "", field->len));
  }
  field->len = 0;
  field->exists = 0;
}

static void put_value(struct output *out, const char *value, int quoted) {
  for (; *value; value++) {
    if (!quoted && out->split && strchr(" \t\n", *value)) finish(out);
    else put(&out->field, *value, quoted);
  }
}

/* What a command prints, without the newlines at its end. */
static char *substitute(const char *text, size_t len) {
  int fds[2], status, stdout_copy;
  pid_t pid;
  size_t used = 0, cap = 256;
  char *result = malloc(cap);
  if (pipe2(fds, O_CLOEXEC) != 0) return result ? (*result = '\0', result) : NULL;
  stdout_copy = fcntl(1, F_DUPFD_CLOEXEC, 10);
  dup2(fds[1], 1);
  int error = spawn_shell(text, len, &pid);
  if (stdout_copy >= 0) dup2(stdout_copy, 1);
  close(stdout_copy);
  close(fds[1]);
  for (ssize_t got; !error;) {
    if (used + 2 > cap) result = realloc(result, cap *= 2);
    got = read(fds[0], result + used, cap - used - 1);
    if (got <= 0 && !(got < 0 && errno == EINTR)) break;
    if (got > 0) used += (size_t)got;
  }
  close(fds[0]);
  while (!error && waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
  last_status = error ? 127 : exit_status(status, 0);
  while (used && result[used - 1] == '\n') used--;
  result[used] = '\0';
  return result;
}

static const char *special(char name, char *room) {
  int count = 0;
  while (positional[0] && positional[count + 1]) count++;
  switch (name) {
    case '?': sprintf(room, "%d", last_status); return room;
    case '$': sprintf(room, "%d", shell_pid); return room;
    case '!': sprintf(room, "%d", last_background); return last_background ? room : "";
    case '#': sprintf(room, "%d", count); return room;
    default: return name - '0' <= count ? positional[name - '0'] : "";
  }
}

static void put_all_arguments(struct output *out, char name, int quoted) {
  for (size_t i = 1; positional[0] && positional[i]; i++) {
    if (i > 1 && name == '@') finish(out);
    else if (i > 1) put_value(out, " ", quoted);
    if (name == '@' && quoted) out->field.exists = 1;
    put_value(out, positional[i], quoted);
  }
}

/* ${NAME} ${NAME:-word} ${NAME-word} ${NAME:=word} ${NAME:+word} ${#NAME} */
static void put_braced(struct output *out, const char *text, size_t len, int quoted) {
  char room[24], *inner = take_text(text, len);
  int length = inner[0] == '#' && inner[1];
  char *name = inner + length;
  size_t name_len = name_length(name);
  if (name_len == 0) name_len = 1;
  char *rest = take_text(name + name_len, strlen(name + name_len));
  name[name_len] = '\0';
  const char *value = name_length(name) ? get_variable(name) : special(*name, room);
  int colon = *rest == ':';
  if (colon) rest++;
  int empty = !value || (colon && !*value);
  if (length) {
    sprintf(room, "%zu", value ? strlen(value) : 0);
    value = room;
  } else if (*rest == '+') {
    value = empty ? "" : expand_one(rest + 1);
  } else if ((*rest == '-' || *rest == '=') && empty) {
    value = expand_one(rest + 1);
    if (*rest == '=') set_variable(name, value, -1);
  }
  put_value(out, value ? value : "", quoted);
}

static const char *end_of_braces(const char *p) {
  int depth = 0;
  for (; *p; p++) {
    if (*p == '(' || *p == '{') depth++;
    if ((*p == ')' || *p == '}') && --depth == 0) return p;
  }
  return p;
}

/* Behind a $: what follows it is put, its end returned. */
static const char *put_dollar(struct output *out, const char *p, int quoted) {
  char room[24];
  size_t len = name_length(p);
  if (*p == '(' || *p == '{') {
    const char *end = end_of_braces(p);
    if (*p == '{') {
      put_braced(out, p + 1, (size_t)(end - p - 1), quoted);
    } else {
      char *value = substitute(p + 1, (size_t)(end - p - 1));
      put_value(out, value, quoted);
      free(value);
    }
    return *end ? end + 1 : end;
  }
  if (len > 0) {
    const char *value = get_variable(take_text(p, len));
    put_value(out, value ? value : "", quoted);
    return p + len;
  }
  if (*p == '@' || *p == '*') put_all_arguments(out, *p, quoted);
  else if (*p && (strchr("?$!#", *p) || isdigit((unsigned char)*p))) put_value(out, special(*p, room), quoted);
  else {
    put(&out->field, '$', 1);
    return p;
  }
  return p + 1;
}

static void expand(struct output *out, const char *p) {
  int in_double = 0;
  if (*p == '~' && (!p[1] || p[1] == '/') && get_variable("HOME")) {
    put_value(out, get_variable("HOME"), 1);
    p++;
  }
  while (*p) {
    if (*p == '"') {
      in_double = !in_double;
      if (strncmp(p, "\"$@\"", 4) != 0) out->field.exists = 1;
      p++;
    } else if (*p == '\'' && !in_double) {
      out->field.exists = 1;
      for (p++; *p && *p != '\''; p++) put(&out->field, *p, 1);
      if (*p) p++;
    } else if (*p == '\\' && p[1] && (!in_double || strchr("$`\"\\\n", p[1]))) {
      if (p[1] != '\n') put(&out->field, p[1], 1);
      p += 2;
    } else if (*p == '$') {
      p = put_dollar(out, p + 1, in_double);
    } else {
      put(&out->field, *p++, in_double);
    }
  }
}

static char **give(struct output *out) {
  char **words = take((out->count + 1) * sizeof *words);
  for (size_t i = 0; i < out->count; i++) words[i] = out->words[i];
  words[out->count] = NULL;
  free(out->words);
  free(out->field.text);
  free(out->field.quoted);
  return words;
}

char **expand_all(const struct word *words) {
  struct output out = {.split = 1};
  for (; words; words = words->next) {
    expand(&out, words->text);
    finish(&out);
  }
  return give(&out);
}

char *expand_one(const char *word) {
  struct output out = {.split = 0};
  expand(&out, word);
  out.field.exists = 1;
  finish(&out);
  return give(&out)[0];
}
