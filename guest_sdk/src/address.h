/* Socket addresses as the ABI's text, and back. */
#ifndef AGENTVM_ADDRESS_H
#define AGENTVM_ADDRESS_H

#include <stddef.h>
#include <sys/socket.h>

#define ADDRESS_TEXT 300 /* "unix-abstract:" and 2 x 108 digits fit */

/* The length of the text in `text` (ADDRESS_TEXT bytes), or -1 with errno. */
int __agentvm_address_text(char *text, const struct sockaddr *address, socklen_t len);
/* Fill in an address and its whole length, cutting it at *len as POSIX has it. Either pointer may be NULL. */
void __agentvm_address(const char *text, size_t text_len, struct sockaddr *address, socklen_t *len);

#endif
