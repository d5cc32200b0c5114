/* <grp.h> over host_user. */
#include <grp.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "records.h"

/* The members' pointers go behind the text, in the same buffer. */
static int parse(char *line, size_t len, size_t cap, struct group *group) {
  size_t used = (len + sizeof(char *)) & ~(sizeof(char *) - 1), count = 1;
  char **members = (char **)(line + used);
  group->gr_name = __agentvm_field(&line);
  group->gr_passwd = __agentvm_field(&line);
  group->gr_gid = (gid_t)strtoul(__agentvm_field(&line), NULL, 10);
  char *list = __agentvm_field(&line);
  for (const char *at = list; *at; at++) count += *at == ',';
  count += *list != '\0';
  if (used + count * sizeof *members > cap) return ERANGE;
  group->gr_mem = members;
  while (*list) {
    char *comma = strchr(list, ',');
    *members++ = list;
    if (!comma) break;
    *comma = '\0';
    list = comma + 1;
  }
  *members = NULL;
  return 0;
}

static int finish(int32_t error, struct group *group, char *buffer, size_t cap, size_t len, struct group **out) {
  *out = NULL;
  int code = __agentvm_line(error, buffer, cap, len);
  if (code < 0) return 0;
  if (code == 0) code = parse(buffer, len, cap, group);
  if (code == 0) *out = group;
  return code;
}

int getgrgid_r(gid_t gid, struct group *group, char *buffer, size_t cap, struct group **out) {
  size_t len = 0;
  int32_t error = abi_getgrgid(gid, buffer, cap, &len);
  return finish(error, group, buffer, cap, len, out);
}

int getgrnam_r(const char *name, struct group *group, char *buffer, size_t cap, struct group **out) {
  size_t len = 0;
  int32_t error = abi_getgrnam(name, strlen(name), buffer, cap, &len);
  return finish(error, group, buffer, cap, len, out);
}

static int at_index(uint32_t index, struct group *group, char *buffer, size_t cap, struct group **out) {
  size_t len = 0;
  int32_t error = abi_getgrent(index, buffer, cap, &len);
  return finish(error, group, buffer, cap, len, out);
}

static struct group group;
static char *buffer;
static size_t cap;
static uint32_t next_index;

static int grow(void) {
  size_t wanted = cap ? cap * 2 : 512;
  char *bigger = wanted > RETRY_CAP ? NULL : realloc(buffer, wanted);
  if (!bigger) return 0;
  buffer = bigger;
  cap = wanted;
  return 1;
}

#define WITH_BUFFER(call)                                         \
  struct group *found = NULL;                                     \
  int error = cap || grow() ? 0 : ENOMEM;                         \
  while (!error && (error = call) == ERANGE && grow()) error = 0; \
  if (error) errno = error;                                       \
  return found

struct group *getgrgid(gid_t gid) { WITH_BUFFER(getgrgid_r(gid, &group, buffer, cap, &found)); }
struct group *getgrnam(const char *name) { WITH_BUFFER(getgrnam_r(name, &group, buffer, cap, &found)); }

void setgrent(void) { next_index = 0; }
void endgrent(void) { next_index = 0; }

static struct group *entry(uint32_t index) { WITH_BUFFER(at_index(index, &group, buffer, cap, &found)); }

struct group *getgrent(void) {
  struct group *found = entry(next_index);
  if (found) next_index++;
  return found;
}

/* The groups of a user, as /etc/group has them. */
int getgrouplist(const char *name, gid_t primary, gid_t *groups, int *count) {
  int found = 1;
  const struct group *each;
  if (*count > 0) groups[0] = primary;
  for (uint32_t index = 0; (each = entry(index)); index++) {
    for (char **member = each->gr_mem; *member; member++) {
      if (strcmp(*member, name) != 0 || each->gr_gid == primary) continue;
      if (found < *count) groups[found] = each->gr_gid;
      found++;
      break;
    }
  }
  int fits = found <= *count;
  *count = found;
  return fits ? found : -1;
}
