/* Socket addresses as the ABI's text, and back. */
#include "address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "internal.h"

#define UNIX_PATH offsetof(struct sockaddr_un, sun_path)

static int hex_text(char *text, const char *prefix, const unsigned char *bytes, size_t len) {
  int at = snprintf(text, ADDRESS_TEXT, "%s", prefix);
  for (size_t i = 0; i < len; i++) at += snprintf(text + at, (size_t)(ADDRESS_TEXT - at), "%02x", bytes[i]);
  return at;
}

static int plain(const char *text) {
  for (; *text; text++)
    if (*text < ' ' || *text > '~') return 0;
  return 1;
}

static int unix_text(char *text, const struct sockaddr_un *address, socklen_t len) {
  size_t room = len > UNIX_PATH ? len - UNIX_PATH : 0;
  char name[sizeof address->sun_path + 1] = "", path[PATH_MAX];
  if (room > sizeof address->sun_path) {
    errno = EINVAL;
    return -1;
  }
  if (room == 0) return snprintf(text, ADDRESS_TEXT, "unix-autobind");
  if (address->sun_path[0] == '\0')
    return hex_text(text, "unix-abstract:", (const unsigned char *)address->sun_path + 1, room - 1);
  memcpy(name, address->sun_path, room);
  /* The host knows where this program started: so long as it is there, names stay as they were given. */
  __agentvm_cwd();
  if (__agentvm_moved) {
    if (__agentvm_absolute(path, sizeof path, name) != 0) return -1;
  } else {
    strcpy(path, name);
  }
  size_t path_len = strlen(path);
  if (path_len > ADDRESS_TEXT / 2 - sizeof "unix-path-hex:") {
    errno = ENAMETOOLONG;
    return -1;
  }
  if (plain(path)) return snprintf(text, ADDRESS_TEXT, "unix:%s", path);
  return hex_text(text, "unix-path-hex:", (const unsigned char *)path, path_len);
}

int __agentvm_address_text(char *text, const struct sockaddr *address, socklen_t len) {
  char host[INET6_ADDRSTRLEN];
  if (!address || len < sizeof(sa_family_t)) {
    errno = EINVAL;
    return -1;
  }
  if (address->sa_family == AF_UNIX) return unix_text(text, (const struct sockaddr_un *)address, len);
  if (address->sa_family == AF_INET && len >= sizeof(struct sockaddr_in)) {
    const struct sockaddr_in *in = (const struct sockaddr_in *)address;
    inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
    return snprintf(text, ADDRESS_TEXT, "%s:%u", host, ntohs(in->sin_port));
  }
  if (address->sa_family == AF_INET6 && len >= offsetof(struct sockaddr_in6, sin6_scope_id)) {
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;
    inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host);
    return snprintf(text, ADDRESS_TEXT, "[%s]:%u", host, ntohs(in6->sin6_port));
  }
  errno = address->sa_family == AF_INET || address->sa_family == AF_INET6 ? EINVAL : EAFNOSUPPORT;
  return -1;
}

static const char *after(const char *text, const char *prefix) {
  size_t len = strlen(prefix);
  return strncmp(text, prefix, len) == 0 ? text + len : NULL;
}

static size_t unhex(unsigned char *bytes, size_t cap, const char *digits) {
  size_t n = 0;
  for (; n < cap && digits[0] && digits[1]; digits += 2) {
    const char pair[3] = {digits[0], digits[1], '\0'};
    bytes[n++] = (unsigned char)strtoul(pair, NULL, 16);
  }
  return n;
}

static socklen_t from_unix(const char *text, struct sockaddr_un *out) {
  const char *rest;
  *out = (struct sockaddr_un){.sun_family = AF_UNIX};
  size_t cap = sizeof out->sun_path - 1;
  if ((rest = after(text, "unix-abstract:"))) return UNIX_PATH + 1 + unhex((unsigned char *)out->sun_path + 1, cap, rest);
  if ((rest = after(text, "unix-path-hex:"))) return UNIX_PATH + 1 + unhex((unsigned char *)out->sun_path, cap, rest);
  if (!(rest = after(text, "unix:"))) return UNIX_PATH; /* unnamed */
  strncpy(out->sun_path, rest, cap);
  return UNIX_PATH + strlen(out->sun_path) + 1;
}

static socklen_t from_inet(char *text, struct sockaddr_storage *out) {
  char *colon = strrchr(text, ':'), *end;
  in_port_t port = htons((uint16_t)(colon ? strtoul(colon + 1, NULL, 10) : 0));
  if (colon) *colon = '\0';
  if (*text == '[') {
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;
    *in6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = port};
    if ((end = strpbrk(text, "]%"))) *end = '\0';
    inet_pton(AF_INET6, text + 1, &in6->sin6_addr);
    return sizeof *in6;
  }
  struct sockaddr_in *in = (struct sockaddr_in *)out;
  *in = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = port};
  inet_pton(AF_INET, strcmp(text, "localhost") == 0 ? "127.0.0.1" : text, &in->sin_addr);
  return sizeof *in;
}

void __agentvm_address(const char *text, size_t text_len, struct sockaddr *address, socklen_t *len) {
  struct sockaddr_storage whole;
  char copy[ADDRESS_TEXT + 1];
  if (!address || !len) return;
  if (text_len > ADDRESS_TEXT) text_len = ADDRESS_TEXT;
  memcpy(copy, text, text_len);
  copy[text_len] = '\0';
  if (text_len == 0) {
    *len = 0;
    return;
  }
  socklen_t full = strncmp(copy, "unix", 4) == 0 ? from_unix(copy, (struct sockaddr_un *)&whole) : from_inet(copy, &whole);
  memcpy(address, &whole, *len < full ? *len : full);
  *len = full;
}
