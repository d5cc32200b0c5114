/* From text to a tree. A word keeps its quotes until it is expanded. */
#include "sh.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static const char *at, *token;
static size_t token_len;
static enum { END, NEWLINE, OPERATOR, WORD, BROKEN } type;
static int failure;

/* The text ends inside what it began: more may come. */
static void cut_short(void) {
  if (!failure) failure = 1;
  type = BROKEN;
}

static void wrong(const char *what) {
  if (!failure) complain("syntax error: %s%s%.*s%s", what, token_len ? " near '" : "", (int)token_len, token, token_len ? "'" : "");
  failure = 2;
  type = BROKEN;
}

static const char *skip_quoted(const char *p) {
  if (*p == '\\') return p[1] ? p + 2 : NULL;
  if (*p == '\'') {
    p = strchr(p + 1, '\'');
    return p ? p + 1 : NULL;
  }
  if (*p == '"') {
    for (p++; *p != '"'; p++) {
      if (*p == '\\') p++;
      if (!*p) return NULL;
    }
    return p + 1;
  }
  int depth = 0; /* $( ... ) or ${ ... } */
  for (p++; *p; p++) {
    if (*p == '(' || *p == '{') depth++;
    else if ((*p == ')' || *p == '}') && --depth == 0) return p + 1;
    else if (strchr("\\'\"", *p) && !(p = skip_quoted(p))) return NULL;
    else if (p[-1] == '\'' || p[-1] == '"') p--;
  }
  return NULL;
}

static void next_word(void) {
  while (*at && !strchr(" \t\n;&|<>()", *at)) {
    int opens = *at == '$' && (at[1] == '(' || at[1] == '{');
    if (!opens && !strchr("\\'\"", *at)) {
      at++;
    } else if (!(at = skip_quoted(at))) {
      at = token + strlen(token);
      cut_short();
      return;
    }
  }
  type = WORD;
}

static void next(void) {
  if (type == BROKEN) return;
  while (*at == ' ' || *at == '\t' || (*at == '\\' && at[1] == '\n')) at += *at == '\\' ? 2 : 1;
  if (*at == '#') at += strcspn(at, "\n");
  token = at;
  if (!*at) {
    type = END;
  } else if (*at == '\n') {
    type = NEWLINE;
    at++;
  } else if (strchr(";&|<>()", *at)) {
    type = OPERATOR;
    at += (at[0] == at[1] && strchr("&|>;<", *at)) || (strchr("<>", *at) && at[1] == '&') ? 2 : 1;
  } else {
    next_word();
    if (type == WORD && at == token + 1 && isdigit((unsigned char)*token) && (*at == '<' || *at == '>')) type = OPERATOR;
  }
  token_len = (size_t)(at - token);
}

static int is(const char *text) {
  return (type == OPERATOR || type == WORD) && strlen(text) == token_len && memcmp(token, text, token_len) == 0;
}

static void newlines(void) {
  while (type == NEWLINE) next();
}

static void expect(const char *text) {
  if (is(text)) next();
  else if (type == END) cut_short();
  else if (type != BROKEN) wrong(text);
}

static struct node *make(enum kind kind, struct node *first, struct node *second) {
  struct node *node = take(sizeof *node);
  *node = (struct node){.kind = kind, .first = first, .second = second};
  return node;
}

static struct node *list(void);

static int ends_list(void) {
  static const char *const words[] = {"then", "else", "elif", "fi", "do", "done", "}", ")", ";;"};
  for (size_t i = 0; i < sizeof words / sizeof *words; i++)
    if (is(words[i])) return 1;
  return type == END || type == BROKEN;
}

static struct node *body(void) {
  struct node *found = list();
  if (!found && type == END) cut_short();
  else if (!found && type != BROKEN) wrong("a command is missing");
  return found;
}

static struct node *if_clause(void) {
  struct node *node = make(IF, NULL, NULL);
  next();
  node->first = body();
  expect("then");
  node->second = body();
  if (is("elif")) {
    node->third = if_clause();
    return node;
  }
  if (is("else")) {
    next();
    node->third = body();
  }
  expect("fi");
  return node;
}

static struct node *loop(enum kind kind) {
  struct node *node = make(kind, NULL, NULL);
  next();
  if (kind != FOR) {
    node->first = body();
  } else {
    struct word **end = &node->words;
    for (int i = 0; type == WORD && (i != 1 || is("in")); i++, next()) {
      if (i == 1) continue;
      *end = take(sizeof **end);
      **end = (struct word){.text = take_text(token, token_len)};
      end = &(*end)->next;
    }
    if (!node->words) wrong("a name is missing after for");
    if (is(";")) next();
    newlines();
  }
  expect("do");
  node->second = body();
  expect("done");
  return node;
}

/* The source of a subshell is what stands between its parentheses. */
static struct node *group(enum kind kind, const char *close) {
  const char *start = at;
  next();
  struct node *node = make(kind, body(), NULL);
  node->source = start;
  node->source_len = (size_t)(token - start);
  expect(close);
  return node;
}

/* [n]< [n]> [n]>> [n]<& [n]>& and the word behind. */
static struct redirection *redirection(void) {
  struct redirection *found = take(sizeof *found);
  int numbered = isdigit((unsigned char)*token);
  int fd = numbered ? *token - '0' : -1;
  if (numbered) next();
  if (is("<<")) wrong("here-documents are not supported");
  if (token_len > 2 || !strchr("<>", *token)) wrong("a redirection");
  *found = (struct redirection){.fd = fd >= 0 ? fd : *token == '>'};
  memcpy(found->operator, token, token_len > 2 ? 0 : token_len);
  next();
  if (type == END) cut_short();
  else if (type != WORD && type != BROKEN) wrong("a file name is missing");
  found->target = take_text(token, token_len);
  next();
  return found;
}

static int starts_redirection(void) {
  return type == OPERATOR && (strchr("<>", *token) || isdigit((unsigned char)*token));
}

static struct node *simple(void) {
  struct node *node = make(COMMAND, NULL, NULL);
  struct word **assignment = &node->assignments, **word = &node->words;
  struct redirection **redirected = &node->redirections;
  while (type == WORD || starts_redirection()) {
    if (starts_redirection()) {
      *redirected = redirection();
      redirected = &(*redirected)->next;
      continue;
    }
    size_t len = name_length(token);
    struct word ***end = !node->words && len > 0 && token[len] == '=' ? &assignment : &word;
    **end = take(sizeof ***end);
    ***end = (struct word){.text = take_text(token, token_len)};
    *end = &(**end)->next;
    next();
  }
  return node;
}

static struct node *command(void) {
  const char *start = token;
  struct node *node;
  if (is("if")) node = if_clause();
  else if (is("while")) node = loop(WHILE);
  else if (is("until")) node = loop(UNTIL);
  else if (is("for")) node = loop(FOR);
  else if (is("{")) node = group(GROUP, "}");
  else if (is("(")) node = group(SUBSHELL, ")");
  else if ((type == WORD && !ends_list()) || starts_redirection()) node = simple();
  else {
    if (type != BROKEN) type == END ? cut_short() : wrong("a command is missing");
    return NULL;
  }
  for (struct redirection **end = &node->redirections; starts_redirection() && failure == 0;) {
    while (*end) end = &(*end)->next;
    *end = redirection();
  }
  if (node->kind != SUBSHELL) {
    node->source = start;
    node->source_len = (size_t)(token - start);
  }
  return node;
}

static struct node *pipeline(void) {
  if (is("!")) {
    next();
    return make(NOT, pipeline(), NULL);
  }
  const char *start = token;
  struct node *node = command();
  if (node && is("|")) {
    next();
    newlines();
    node = make(PIPE, node, pipeline());
    node->source = start;
    node->source_len = (size_t)(token - start);
  }
  return node;
}

static struct node *and_or(void) {
  const char *start = token;
  struct node *node = pipeline();
  while (is("&&") || is("||")) {
    enum kind kind = is("&&") ? AND : OR;
    next();
    newlines();
    node = make(kind, node, pipeline());
  }
  if (node && node->kind != SUBSHELL) {
    node->source = start;
    node->source_len = (size_t)(token - start);
  }
  return node;
}

/* Commands up to a word that ends them; NULL if there are none. */
static struct node *list(void) {
  struct node *all = NULL;
  for (newlines(); !ends_list(); newlines()) {
    struct node *one = and_or();
    if (is("&")) one = make(BACKGROUND, one, NULL);
    all = all ? make(SEQUENCE, all, one) : one;
    if (is("&") || is(";")) next();
    else if (type != NEWLINE) break;
  }
  return all;
}

/* One line, or as many as a command spans. */
struct node *parse(const char **text, int *status) {
  at = *text;
  type = END;
  failure = 0;
  struct node *all = NULL;
  for (next(); type == NEWLINE;) next();
  while (type != END && type != NEWLINE && type != BROKEN) {
    struct node *one = and_or();
    if (is("&")) one = make(BACKGROUND, one, NULL);
    all = all ? make(SEQUENCE, all, one) : one;
    if (is("&") || is(";")) next();
    else if (type != END && type != NEWLINE && type != BROKEN) wrong("unexpected word");
  }
  *text = at;
  *status = failure;
  return failure ? NULL : all;
}
