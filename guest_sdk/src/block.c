/* Argument and environment blocks: NUL-terminated strings, one after the other. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

static char *append(char *at, const char *text) {
  size_t len = strlen(text) + 1;
  return (char *)memcpy(at, text, len) + len;
}

char *__agentvm_block(char *const strings[], size_t *len) {
  *len = 0;
  for (size_t i = 0; strings && strings[i]; i++) *len += strlen(strings[i]) + 1;
  char *block = malloc(*len + 1), *at = block;
  if (!block) return NULL;
  for (size_t i = 0; strings && strings[i]; i++) at = append(at, strings[i]);
  return block;
}

char *__agentvm_environ_block(char *const env[], const char *cwd, int add, size_t *len) {
  size_t room = 1 + (cwd ? strlen(cwd) + sizeof "PWD=" : 0);
  for (size_t i = 0; env && env[i]; i++) room += strlen(env[i]) + 1;
  char *block = malloc(room), *at = block;
  if (!block) return NULL;
  for (size_t i = 0; env && env[i]; i++) {
    if (strncmp(env[i], "PWD=", 4) == 0) add = 1;
    else at = append(at, env[i]);
  }
  if (add && cwd) {
    at = append(at, "PWD=");
    at = append(at - 1, cwd);
  }
  *len = (size_t)(at - block);
  return block;
}
