/* What <pwd.h> and <grp.h> share. */
#include "records.h"

#include <errno.h>
#include <string.h>

char *__agentvm_field(char **line) {
  char *start = *line, *end = strpbrk(start, ":\n");
  if (end) {
    *line = *end == ':' ? end + 1 : end + strlen(end);
    *end = '\0';
  } else {
    *line = start + strlen(start);
  }
  return start;
}

int __agentvm_line(int32_t error, char *buffer, size_t cap, size_t len) {
  if (error == ENOENT) return -1;
  if (error != 0) return error;
  if (len >= cap) return ERANGE;
  buffer[len] = '\0';
  return 0;
}
