/* Takes the place of wasi-libc's header of this name, whose sigset_t is one byte. */
#ifndef __wasilibc___typedef_sigset_t_h
#define __wasilibc___typedef_sigset_t_h

#pragma GCC system_header

typedef struct {
  unsigned int __bits[2]; /* bit (signal - 1): the ABI's two words */
} sigset_t;

#endif
