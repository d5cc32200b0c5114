/* <stdio.h>: wasi-libc's, and popen and temporary files. */
#ifndef AGENTVM_STDIO_H
#define AGENTVM_STDIO_H

#pragma GCC system_header

/* wasi-libc declares tmpfile and tmpnam as deprecated, because it has neither. */
#pragma push_macro("__deprecated__")
#define __deprecated__(text)
#include_next <stdio.h>
#pragma pop_macro("__deprecated__")

#ifdef __cplusplus
extern "C" {
#endif

#define P_tmpdir "/tmp"
#define TMP_MAX 10000
#define L_tmpnam 20

FILE *popen(const char *, const char *);
int pclose(FILE *);
FILE *tmpfile(void);
char *tmpnam(char *);
char *tempnam(const char *, const char *);
void flockfile(FILE *);
int ftrylockfile(FILE *);
void funlockfile(FILE *);

#ifdef __cplusplus
}
#endif

#endif
