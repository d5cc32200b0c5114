/* <unistd.h> users and groups of the process. */
#include <errno.h>
#include <unistd.h>

#include "internal.h"

static uint32_t number(int32_t error, uint32_t value) { return error == 0 ? value : (uint32_t)-1; }

#define GETTER(type, name)                    \
  type name(void) {                           \
    uint32_t id = 0;                          \
    int32_t error = abi_##name(&id);          \
    return number(error, id);                 \
  }
GETTER(uid_t, getuid)
GETTER(uid_t, geteuid)
GETTER(gid_t, getgid)
GETTER(gid_t, getegid)

int setuid(uid_t id) { return result(abi_setuid(id)); }
int seteuid(uid_t id) { return result(abi_seteuid(id)); }
int setgid(gid_t id) { return result(abi_setgid(id)); }
int setegid(gid_t id) { return result(abi_setegid(id)); }
int setreuid(uid_t real, uid_t effective) { return result(abi_setreuid(real, effective)); }
int setregid(gid_t real, gid_t effective) { return result(abi_setregid(real, effective)); }
int setresuid(uid_t real, uid_t effective, uid_t saved) { return result(abi_setresuid(real, effective, saved)); }
int setresgid(gid_t real, gid_t effective, gid_t saved) { return result(abi_setresgid(real, effective, saved)); }
int getresuid(uid_t *real, uid_t *effective, uid_t *saved) { return result(abi_getresuid(real, effective, saved)); }
int getresgid(gid_t *real, gid_t *effective, gid_t *saved) { return result(abi_getresgid(real, effective, saved)); }

int getgroups(int size, gid_t groups[]) {
  size_t count = 0;
  if (size < 0) {
    errno = EINVAL;
    return -1;
  }
  return result(abi_getgroups((size_t)size, groups, &count)) == 0 ? (int)count : -1;
}

int setgroups(size_t count, const gid_t *groups) { return result(abi_setgroups(count, groups)); }

int issetugid(void) { return getuid() != geteuid() || getgid() != getegid(); }
