/* <err.h>, which wasi-libc leaves out. */
#include <err.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wasi/api.h>

/* argv[0] as the host has it: wasi-libc keeps none. */
static const char *program(void) {
  static char *name;
  size_t count, size;
  if (name) return name;
  if (__wasi_args_sizes_get(&count, &size) != 0 || count == 0) return "";
  char **argv = malloc(count * sizeof *argv), *text = malloc(size);
  if (!argv || !text || __wasi_args_get((uint8_t **)argv, (uint8_t *)text) != 0) return "";
  char *slash = strrchr(argv[0], '/');
  name = slash ? slash + 1 : argv[0];
  free(argv);
  return name;
}

static void say(const char *format, va_list arguments, const char *reason) {
  fprintf(stderr, "%s: ", program());
  if (format) vfprintf(stderr, format, arguments);
  if (format && reason) fputs(": ", stderr);
  if (reason) fputs(reason, stderr);
  fputc('\n', stderr);
}

void vwarn(const char *format, va_list arguments) { say(format, arguments, strerror(errno)); }
void vwarnx(const char *format, va_list arguments) { say(format, arguments, NULL); }

_Noreturn void verr(int status, const char *format, va_list arguments) {
  vwarn(format, arguments);
  exit(status);
}

_Noreturn void verrx(int status, const char *format, va_list arguments) {
  vwarnx(format, arguments);
  exit(status);
}

void warn(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vwarn(format, arguments);
  va_end(arguments);
}

void warnx(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vwarnx(format, arguments);
  va_end(arguments);
}

_Noreturn void err(int status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  verr(status, format, arguments);
}

_Noreturn void errx(int status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  verrx(status, format, arguments);
}
