/* What <pwd.h> and <grp.h> share: a record is a line of text that the host gives, cut at its colons. */
#ifndef AGENTVM_RECORDS_H
#define AGENTVM_RECORDS_H

#include <stddef.h>
#include <stdint.h>

/* The next field of *line, which is moved behind it; "" when there is none. */
char *__agentvm_field(char **line);
/* The line, NUL-terminated, in `buffer`: 0, ERANGE if it is too small, ENOENT as -1 (no such record), or another. */
int __agentvm_line(int32_t error, char *buffer, size_t cap, size_t len);

#endif
