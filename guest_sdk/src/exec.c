/* <unistd.h> exec. The host closes what has FD_CLOEXEC; the current directory goes along as PWD. */
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

/* What a new image gets; 0, or -1 with errno. */
struct image {
  char *argv, *env;
  size_t argv_len, env_len;
};

static int pack(struct image *image, char *const argv[], char *const env[]) {
  image->argv = __agentvm_block(argv, &image->argv_len);
  image->env = __agentvm_environ_block(env, __agentvm_cwd(), __agentvm_moved, &image->env_len);
  return image->argv && image->env ? 0 : -1;
}

static int unpack(struct image *image, int32_t error) {
  free(image->argv);
  free(image->env);
  return result(error);
}

int execve(const char *path, char *const argv[], char *const env[]) {
  char exe[PATH_MAX];
  struct image image;
  int32_t error = ENOMEM;
  /* The host knows where this program started: so long as it is there, a script hears its name as it was given. */
  __agentvm_cwd();
  if (!__agentvm_moved && strlen(path) < sizeof exe) strcpy(exe, path);
  else if (__agentvm_absolute(exe, sizeof exe, path) != 0) return -1;
  if (pack(&image, argv, env) == 0)
    error = abi_exec(exe, strlen(exe), image.argv, image.argv_len, image.env, image.env_len, NULL, 0);
  return unpack(&image, error);
}

int execv(const char *path, char *const argv[]) { return execve(path, argv, environ); }

int fexecve(int fd, char *const argv[], char *const env[]) {
  struct image image;
  int32_t error = ENOMEM;
  if (pack(&image, argv, env) == 0)
    error = abi_fexec(fd, image.argv, image.argv_len, image.env, image.env_len, NULL, 0);
  return unpack(&image, error);
}

/* A file that is no program is a script of the shell: POSIX, for execvp only. */
static int exec_script(const char *path, char *const argv[], char *const env[]) {
  size_t count = 0;
  while (argv[count]) count++;
  char **words = calloc(count + 3, sizeof *words);
  if (!words) return -1;
  words[0] = "sh";
  words[1] = (char *)path;
  for (size_t i = 1; i < count; i++) words[i + 1] = argv[i];
  execve("/bin/sh", words, env);
  free(words);
  return -1;
}

static int try(const char *path, char *const argv[], char *const env[]) {
  execve(path, argv, env);
  return errno == ENOEXEC ? exec_script(path, argv, env) : -1;
}

int execvpe(const char *file, char *const argv[], char *const env[]) {
  char path[PATH_MAX];
  const char *search = getenv("PATH");
  int denied = 0;
  if (!*file) {
    errno = ENOENT;
    return -1;
  }
  if (strchr(file, '/')) return try(file, argv, env);
  if (!search) search = "/bin:/usr/bin";
  for (const char *end;; search = end + 1) {
    end = strchrnul(search, ':');
    size_t len = (size_t)(end - search), name = strlen(file);
    if (len + name + 2 <= sizeof path) {
      memcpy(path, search, len);
      if (len) path[len++] = '/'; /* an empty entry is the current directory */
      memcpy(path + len, file, name + 1);
      try(path, argv, env);
      if (errno == EACCES) denied = 1;
      else if (errno != ENOENT && errno != ENOTDIR) return -1;
    }
    if (!*end) break;
  }
  errno = denied ? EACCES : ENOENT;
  return -1;
}

int execvp(const char *file, char *const argv[]) { return execvpe(file, argv, environ); }

/* The arguments of the execl family as an array on the heap, and what follows their NULL, if asked for. */
static char **gather(const char *first, va_list arguments, char *const **env) {
  va_list again;
  size_t count = 1;
  va_copy(again, arguments);
  while (va_arg(again, char *)) count++;
  va_end(again);
  char **argv = calloc(count + 1, sizeof *argv);
  if (!argv) return NULL;
  argv[0] = (char *)first;
  for (size_t i = 1; i < count; i++) argv[i] = va_arg(arguments, char *);
  (void)va_arg(arguments, char *);
  if (env) *env = va_arg(arguments, char *const *);
  return argv;
}

#define EXECL(name, env_at, call)                          \
  int name(const char *path, const char *first, ...) {     \
    va_list arguments;                                     \
    char *const *env = environ;                            \
    va_start(arguments, first);                            \
    char **argv = gather(first, arguments, env_at);        \
    va_end(arguments);                                     \
    if (argv) call;                                        \
    free(argv);                                            \
    return -1;                                             \
  }

EXECL(execl, NULL, execve(path, argv, env))
EXECL(execle, &env, execve(path, argv, env))
EXECL(execlp, NULL, execvpe(path, argv, env))
