/* Takes the place of wasi-libc's header of this name, whose d_name has no size. */
#ifndef __wasilibc___struct_dirent_h
#define __wasilibc___struct_dirent_h

#pragma GCC system_header

#include <__typedef_ino_t.h>

#define _DIRENT_HAVE_D_TYPE

/* d_name has the size that it has on Linux, which programs take with sizeof; the C library fills what it needs. */
struct dirent {
  ino_t d_ino;
  unsigned char d_type;
  char d_name[256];
};

#endif
