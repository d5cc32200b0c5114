/* Connects, sends its arguments as lines and prints what comes back.
   usage: echo_client PORT LINE...   waits up to two seconds for the server to listen */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int connect_to(const char *port) {
  const struct timespec pause = {.tv_nsec = 20 * 1000 * 1000};
  struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *found;
  int code = getaddrinfo("127.0.0.1", port, &hints, &found), fd = -1;
  if (code != 0) {
    fprintf(stderr, "echo_client: %s: %s\n", port, gai_strerror(code));
    return -1;
  }
  for (int attempt = 0; attempt < 100; attempt++) {
    fd = socket(found->ai_family, found->ai_socktype, found->ai_protocol);
    if (fd < 0 || connect(fd, found->ai_addr, found->ai_addrlen) == 0) break;
    close(fd);
    fd = -1;
    if (errno != ECONNREFUSED) break;
    nanosleep(&pause, NULL);
  }
  if (fd < 0) perror("echo_client");
  freeaddrinfo(found);
  return fd;
}

int main(int argc, char **argv) {
  char line[4096];
  if (argc < 2) {
    fprintf(stderr, "usage: echo_client PORT LINE...\n");
    return 2;
  }
  int fd = connect_to(argv[1]);
  if (fd < 0) return 1;
  FILE *in = fdopen(fd, "r"), *out = fdopen(dup(fd), "w");
  for (int i = 2; in && out && i < argc; i++) {
    fprintf(out, "%s\n", argv[i]);
    fflush(out);
    if (!fgets(line, sizeof line, in)) {
      fprintf(stderr, "echo_client: the server went away\n");
      return 1;
    }
    fputs(line, stdout);
  }
  return in && out ? 0 : 1;
}
