/* <pwd.h> over host_user, and getlogin. */
#include <pwd.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"
#include "records.h"

static void parse(char *line, struct passwd *user) {
  user->pw_name = __agentvm_field(&line);
  user->pw_passwd = __agentvm_field(&line);
  user->pw_uid = (uid_t)strtoul(__agentvm_field(&line), NULL, 10);
  user->pw_gid = (gid_t)strtoul(__agentvm_field(&line), NULL, 10);
  user->pw_gecos = __agentvm_field(&line);
  user->pw_dir = __agentvm_field(&line);
  user->pw_shell = __agentvm_field(&line);
}

static int finish(int32_t error, struct passwd *user, char *buffer, size_t cap, size_t len, struct passwd **out) {
  *out = NULL;
  int code = __agentvm_line(error, buffer, cap, len);
  if (code < 0) return 0; /* POSIX: no such user is no error */
  if (code > 0) return code;
  parse(buffer, user);
  *out = user;
  return 0;
}

int getpwuid_r(uid_t uid, struct passwd *user, char *buffer, size_t cap, struct passwd **out) {
  size_t len = 0;
  int32_t error = abi_getpwuid(uid, buffer, cap, &len);
  return finish(error, user, buffer, cap, len, out);
}

int getpwnam_r(const char *name, struct passwd *user, char *buffer, size_t cap, struct passwd **out) {
  size_t len = 0;
  int32_t error = abi_getpwnam(name, strlen(name), buffer, cap, &len);
  return finish(error, user, buffer, cap, len, out);
}

static int at_index(uint32_t index, struct passwd *user, char *buffer, size_t cap, struct passwd **out) {
  size_t len = 0;
  int32_t error = abi_getpwent(index, buffer, cap, &len);
  return finish(error, user, buffer, cap, len, out);
}

static struct passwd user;
static char *buffer;
static size_t cap;
static uint32_t next_index;

/* Room for one more try with a longer buffer. */
static int grow(void) {
  size_t wanted = cap ? cap * 2 : 512;
  char *bigger = wanted > RETRY_CAP ? NULL : realloc(buffer, wanted);
  if (!bigger) return 0;
  buffer = bigger;
  cap = wanted;
  return 1;
}

#define WITH_BUFFER(call)                                   \
  struct passwd *found = NULL;                              \
  int error = cap || grow() ? 0 : ENOMEM;                   \
  while (!error && (error = call) == ERANGE && grow()) error = 0; \
  if (error) errno = error;                                 \
  return found

struct passwd *getpwuid(uid_t uid) { WITH_BUFFER(getpwuid_r(uid, &user, buffer, cap, &found)); }
struct passwd *getpwnam(const char *name) { WITH_BUFFER(getpwnam_r(name, &user, buffer, cap, &found)); }

void setpwent(void) { next_index = 0; }
void endpwent(void) { next_index = 0; }

static struct passwd *entry(uint32_t index) { WITH_BUFFER(at_index(index, &user, buffer, cap, &found)); }

struct passwd *getpwent(void) {
  struct passwd *found = entry(next_index);
  if (found) next_index++;
  return found;
}

char *getlogin(void) {
  const struct passwd *found = getpwuid(getuid());
  if (!found) errno = ENXIO;
  return found ? found->pw_name : NULL;
}

int getlogin_r(char *name, size_t size) {
  const char *login = getlogin();
  if (!login) return ENXIO;
  if (strlen(login) >= size) return ERANGE;
  strcpy(name, login);
  return 0;
}
