/* <sys/utsname.h> uname, <unistd.h> gethostname. */
#include <sys/utsname.h>

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

enum { HOSTNAME, TYPE, RELEASE, VERSION, MACHINE, DOMAIN };

/* Not weak: the compiler's own library has a weak uname that comes first. */
int uname(struct utsname *out) {
  const struct {
    int32_t field;
    char *text;
  } parts[] = {{TYPE, out->sysname},    {HOSTNAME, out->nodename}, {RELEASE, out->release},
               {VERSION, out->version}, {MACHINE, out->machine},   {DOMAIN, out->domainname}};
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
    memset(parts[i].text, 0, sizeof out->sysname);
    if (result(abi_identity(parts[i].field, parts[i].text, sizeof out->sysname)) != 0) return -1;
  }
  return 0;
}

int gethostname(char *name, size_t size) { return result(abi_identity(HOSTNAME, name, size)); }
OVERRIDE int getdomainname(char *name, size_t size) { return result(abi_identity(DOMAIN, name, size)); }
