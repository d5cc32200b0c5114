/* <sys/un.h>: with a path (see __struct_sockaddr_un.h). */
#ifndef AGENTVM_SYS_UN_H
#define AGENTVM_SYS_UN_H

#pragma GCC system_header

#include <sys/socket.h>
#include_next <sys/un.h>

#endif
