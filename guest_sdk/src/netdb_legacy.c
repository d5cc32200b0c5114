/* <netdb.h> the calls of before getaddrinfo, for one name at a time. */
#include <netdb.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

static int error_number;
int *__h_errno_location(void) { return &error_number; }

struct hostent *gethostbyname2(const char *name, int family) {
  static unsigned char bytes[8][16];
  static char *addresses[9], *aliases[1], own_name[256];
  static struct hostent host;
  struct addrinfo hints = {.ai_family = family, .ai_socktype = SOCK_STREAM}, *found;
  int code = getaddrinfo(name, NULL, &hints, &found), count = 0;
  if (code != 0) {
    error_number = code == EAI_AGAIN ? TRY_AGAIN : code == EAI_NONAME ? HOST_NOT_FOUND : NO_RECOVERY;
    return NULL;
  }
  size_t size = family == AF_INET ? 4 : 16;
  for (const struct addrinfo *each = found; each && count < 8; each = each->ai_next, count++) {
    const void *source = family == AF_INET ? (const void *)&((const struct sockaddr_in *)each->ai_addr)->sin_addr
                                           : (const void *)&((const struct sockaddr_in6 *)each->ai_addr)->sin6_addr;
    addresses[count] = memcpy(bytes[count], source, size);
  }
  freeaddrinfo(found);
  addresses[count] = NULL;
  strncpy(own_name, name, sizeof own_name - 1);
  host = (struct hostent){own_name, aliases, family, (int)size, addresses};
  return &host;
}

struct hostent *gethostbyname(const char *name) { return gethostbyname2(name, AF_INET); }

struct servent *getservbyname(const char *name, const char *protocol) {
  static char *aliases[1], own_name[64], own_protocol[8];
  static struct servent service;
  int udp = protocol && strcmp(protocol, "udp") == 0;
  struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = udp ? SOCK_DGRAM : SOCK_STREAM}, *found;
  if (getaddrinfo(NULL, name, &hints, &found) != 0) return NULL;
  strncpy(own_name, name, sizeof own_name - 1);
  strcpy(own_protocol, udp ? "udp" : "tcp");
  service = (struct servent){own_name, aliases, ((const struct sockaddr_in *)found->ai_addr)->sin_port, own_protocol};
  freeaddrinfo(found);
  return &service;
}

const char *hstrerror(int code) {
  return code == HOST_NOT_FOUND ? "Host not found" : code == TRY_AGAIN ? "Try again" : "Name lookup failed";
}

void herror(const char *text) { fprintf(stderr, "%s: %s\n", text, hstrerror(error_number)); }
