/* Exports that every program has. */
#include <stdint.h>

int32_t __agentos_set_initial_sigmask(int32_t lo, int32_t hi);

/* A host calls this before _start when a program starts with signals blocked, and refuses to start one without it.
   The mask itself is the host's; nothing here keeps a copy. */
__attribute__((__export_name__("__agentos_set_initial_sigmask"))) int32_t __agentos_set_initial_sigmask(int32_t lo,
                                                                                                        int32_t hi) {
  (void)lo;
  (void)hi;
  return 0;
}
