/* <netinet/in.h>: wasi-libc's, and the options of IP. */
#ifndef AGENTVM_NETINET_IN_H
#define AGENTVM_NETINET_IN_H

#pragma GCC system_header

#include <sys/socket.h>
#include_next <netinet/in.h>

#ifndef INADDR_ANY
#define INADDR_ANY ((in_addr_t)0x00000000)
#endif
#ifndef INADDR_LOOPBACK
#define INADDR_LOOPBACK ((in_addr_t)0x7f000001)
#endif
#ifndef INADDR_BROADCAST
#define INADDR_BROADCAST ((in_addr_t)0xffffffff)
#endif
#ifndef INADDR_NONE
#define INADDR_NONE ((in_addr_t)0xffffffff)
#endif
#ifndef IP_TOS
#define IP_TOS 1
#endif
#ifndef IP_TTL
#define IP_TTL 2
#endif
#ifndef IPV6_V6ONLY
#define IPV6_V6ONLY 26
#endif
#ifndef IPV6_TCLASS
#define IPV6_TCLASS 67
#endif

#endif
