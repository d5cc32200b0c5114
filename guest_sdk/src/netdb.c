/* <netdb.h>: numeric addresses and ports here, names by the host (which reads /etc/hosts or asks a resolver). */
#include <netdb.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

struct entry { /* what getaddrinfo gives out: each with its address */
  struct addrinfo info;
  struct sockaddr_storage address;
};

struct answer {
  struct addrinfo *first, **last;
  const struct addrinfo *hints;
  uint16_t port;
  const char *name;
};

static const struct {
  const char *name, *protocol;
  uint16_t port;
} services[] = {{"ftp", "tcp", 21},   {"ssh", "tcp", 22},    {"smtp", "tcp", 25},  {"domain", "udp", 53},
                {"domain", "tcp", 53}, {"http", "tcp", 80},   {"pop3", "tcp", 110}, {"ntp", "udp", 123},
                {"imap", "tcp", 143},  {"https", "tcp", 443}, {"echo", "tcp", 7},   {"echo", "udp", 7}};

static int add_one(struct answer *answer, int family, const void *bytes, int type, int protocol) {
  struct entry *entry = calloc(1, sizeof *entry);
  if (!entry) return EAI_MEMORY;
  socklen_t len;
  if (family == AF_INET) {
    struct sockaddr_in *in = (struct sockaddr_in *)&entry->address;
    in->sin_family = AF_INET;
    in->sin_port = htons(answer->port);
    memcpy(&in->sin_addr, bytes, 4);
    len = sizeof *in;
  } else {
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&entry->address;
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(answer->port);
    memcpy(&in6->sin6_addr, bytes, 16);
    len = sizeof *in6;
  }
  entry->info = (struct addrinfo){.ai_family = family,
                                  .ai_socktype = type,
                                  .ai_protocol = protocol,
                                  .ai_addrlen = len,
                                  .ai_addr = (struct sockaddr *)&entry->address};
  if (answer->hints->ai_flags & AI_CANONNAME && !answer->first) entry->info.ai_canonname = strdup(answer->name);
  *answer->last = &entry->info;
  answer->last = &entry->info.ai_next;
  return 0;
}

static int add(struct answer *answer, int family, const void *bytes) {
  int type = answer->hints->ai_socktype, error = 0;
  if (type == 0 || type == SOCK_STREAM) error = add_one(answer, family, bytes, SOCK_STREAM, IPPROTO_TCP);
  if (!error && (type == 0 || type == SOCK_DGRAM)) error = add_one(answer, family, bytes, SOCK_DGRAM, IPPROTO_UDP);
  return error;
}

static int add_text(struct answer *answer, const char *text) {
  unsigned char bytes[16];
  int family = inet_pton(AF_INET, text, bytes) == 1 ? AF_INET : inet_pton(AF_INET6, text, bytes) == 1 ? AF_INET6 : 0;
  if (!family) return EAI_NONAME;
  if (answer->hints->ai_family != AF_UNSPEC && answer->hints->ai_family != family) return EAI_FAMILY;
  return add(answer, family, bytes);
}

/* The host's JSON, [{"addr":"1.2.3.4","family":4}]: only the addresses matter, and they hold no escapes. */
static int add_json(struct answer *answer, char *json) {
  static const char key[] = "\"addr\":";
  for (char *at = json; (at = strstr(at, key));) {
    char *text = strchr(at + sizeof key - 1, '"');
    char *end = text ? strchr(text + 1, '"') : NULL;
    if (!end) break;
    *end = '\0';
    int error = add_text(answer, text + 1);
    if (error == EAI_MEMORY) return error;
    at = end + 1;
  }
  return answer->first ? 0 : EAI_NONAME;
}

static int from_errno(int32_t error) {
  if (error == EAGAIN || error == ETIMEDOUT) return EAI_AGAIN;
  if (error == ENOMEM) return EAI_MEMORY;
  if (error == ENOENT) return EAI_NONAME;
  if (error == EACCES || error == ENOTSUP || error == ENOSYS || error == EPERM || error == EHOSTUNREACH) return EAI_FAIL;
  errno = error;
  return EAI_SYSTEM;
}

static int ask(struct answer *answer, const char *host, const char *service) {
  static const int versions[] = {[AF_UNSPEC] = 0, [AF_INET] = 4, [AF_INET6] = 6};
  size_t len, cap = 4096;
  for (;;) {
    char *json = malloc(cap + 1);
    if (!json) return EAI_MEMORY;
    len = cap;
    int32_t error = abi_getaddrinfo(host, strlen(host), service ? service : "", service ? strlen(service) : 0,
                                    versions[answer->hints->ai_family], json, &len);
    if (error == 0 && len <= cap) json[len] = '\0';
    int code = error == 0 && len <= cap ? add_json(answer, json) : from_errno(error);
    free(json);
    if ((error != ERANGE && error != EOVERFLOW) || len <= cap || len > RETRY_CAP) return code;
    cap = len;
  }
}

static int find_port(const char *service, const struct addrinfo *hints, uint16_t *port) {
  char *end;
  *port = 0;
  if (!service) return 0;
  unsigned long number = strtoul(service, &end, 10);
  if (*service && !*end) {
    *port = (uint16_t)number;
    return number > 65535 ? EAI_SERVICE : 0;
  }
  if (hints->ai_flags & AI_NUMERICSERV) return EAI_NONAME;
  for (size_t i = 0; i < sizeof services / sizeof *services; i++) {
    if (strcmp(service, services[i].name) != 0) continue;
    if (hints->ai_socktype == SOCK_DGRAM && strcmp(services[i].protocol, "udp") != 0) continue;
    *port = services[i].port;
    return 0;
  }
  return EAI_SERVICE;
}

static int add_default(struct answer *answer) {
  static const unsigned char zero[16], loop4[4] = {127, 0, 0, 1}, loop6[16] = {[15] = 1};
  int passive = answer->hints->ai_flags & AI_PASSIVE, family = answer->hints->ai_family, error = 0;
  if (family != AF_INET6) error = add(answer, AF_INET, passive ? zero : loop4);
  if (!error && family != AF_INET) error = add(answer, AF_INET6, passive ? zero : loop6);
  return error;
}

int getaddrinfo(const char *restrict host, const char *restrict service, const struct addrinfo *restrict hints,
                struct addrinfo **restrict out) {
  static const struct addrinfo none;
  struct answer answer = {.hints = hints ? hints : &none, .name = host};
  answer.last = &answer.first;
  if (!host && !service) return EAI_NONAME;
  if (answer.hints->ai_family != AF_UNSPEC && answer.hints->ai_family != AF_INET && answer.hints->ai_family != AF_INET6)
    return EAI_FAMILY;
  if (answer.hints->ai_socktype && answer.hints->ai_socktype != SOCK_STREAM && answer.hints->ai_socktype != SOCK_DGRAM)
    return EAI_SOCKTYPE;
  int error = find_port(service, answer.hints, &answer.port);
  if (error) return error;
  error = host ? add_text(&answer, host) : add_default(&answer);
  if (error == EAI_NONAME && !(answer.hints->ai_flags & AI_NUMERICHOST)) error = ask(&answer, host, service);
  if (error) freeaddrinfo(answer.first);
  else *out = answer.first;
  return error;
}

void freeaddrinfo(struct addrinfo *list) {
  while (list) {
    struct addrinfo *next = list->ai_next;
    free(list->ai_canonname);
    free(list);
    list = next;
  }
}

const char *gai_strerror(int code) {
  switch (code) {
    case 0: return "Success";
    case EAI_BADFLAGS: return "Invalid flags";
    case EAI_NONAME: return "Name does not resolve";
    case EAI_AGAIN: return "Try again";
    case EAI_FAIL: return "Non-recoverable error";
    case EAI_FAMILY: return "Unrecognized address family or invalid length";
    case EAI_SOCKTYPE: return "Unrecognized socket type";
    case EAI_SERVICE: return "Unrecognized service";
    case EAI_MEMORY: return "Out of memory";
    case EAI_SYSTEM: return "System error";
    case EAI_OVERFLOW: return "Overflow";
    default: return "Unknown error";
  }
}

static int put(char *out, socklen_t cap, const char *text) {
  if (!out || cap == 0) return 0;
  return (size_t)snprintf(out, cap, "%s", text) < cap ? 0 : EAI_OVERFLOW;
}

int getnameinfo(const struct sockaddr *restrict address, socklen_t len, char *restrict host, socklen_t host_cap,
                char *restrict service, socklen_t service_cap, int flags) {
  char text[INET6_ADDRSTRLEN], port[8];
  int is4 = address->sa_family == AF_INET && len >= sizeof(struct sockaddr_in);
  if (!is4 && !(address->sa_family == AF_INET6 && len >= sizeof(struct sockaddr_in6))) return EAI_FAMILY;
  if (flags & NI_NAMEREQD) return EAI_NONAME; /* the ABI has no lookup by address */
  const void *bytes = is4 ? (const void *)&((const struct sockaddr_in *)address)->sin_addr
                          : (const void *)&((const struct sockaddr_in6 *)address)->sin6_addr;
  inet_ntop(address->sa_family, bytes, text, sizeof text);
  snprintf(port, sizeof port, "%u", ntohs(((const struct sockaddr_in *)address)->sin_port)); /* the same place in both */
  int error = put(host, host_cap, text);
  return error ? error : put(service, service_cap, port);
}
