/* A TCP server on 127.0.0.1 that sends back what it gets; one thread, many clients, by poll.
   usage: echo_server PORT [CLIENTS]   ends after CLIENTS clients, or never */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_CLIENTS 64

static int listen_on(uint16_t port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  socklen_t len = sizeof address;
  int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (fd < 0) return -1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd, (struct sockaddr *)&address, len) != 0 || listen(fd, 16) != 0) return -1;
  if (getsockname(fd, (struct sockaddr *)&address, &len) != 0) return -1;
  printf("listening on %s:%u\n", inet_ntoa(address.sin_addr), ntohs(address.sin_port));
  fflush(stdout);
  return fd;
}

/* 0 when the client is gone. */
static int echo(int fd) {
  char data[4096];
  ssize_t got = read(fd, data, sizeof data);
  if (got < 0 && errno == EINTR) return 1;
  for (ssize_t sent = 0; sent < got;) {
    ssize_t more = write(fd, data + sent, (size_t)(got - sent));
    if (more < 0 && errno != EINTR) return 0;
    if (more > 0) sent += more;
  }
  return got > 0;
}

static int serve(int listener, long clients) {
  struct pollfd fds[1 + MAX_CLIENTS] = {{.fd = listener, .events = POLLIN}};
  nfds_t count = 1;
  long served = 0;
  while (clients == 0 || served < clients) {
    fds[0].events = count <= MAX_CLIENTS ? POLLIN : 0;
    if (poll(fds, count, -1) < 0) {
      if (errno == EINTR) continue;
      return -1;
    }
    for (nfds_t i = count; i-- > 1;) {
      if (!fds[i].revents || echo(fds[i].fd)) continue;
      close(fds[i].fd);
      fds[i] = fds[--count];
      served++;
    }
    if (fds[0].revents & POLLIN) {
      int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
      if (fd >= 0) fds[count++] = (struct pollfd){.fd = fd, .events = POLLIN};
    }
  }
  printf("served %ld\n", served);
  return 0;
}

int main(int argc, char **argv) {
  if (argc < 2) {
    fprintf(stderr, "usage: echo_server PORT [CLIENTS]\n");
    return 2;
  }
  signal(SIGPIPE, SIG_IGN);
  int listener = listen_on((uint16_t)atoi(argv[1]));
  if (listener < 0 || serve(listener, argc > 2 ? atol(argv[2]) : 0) != 0) {
    perror("echo_server");
    return 1;
  }
  return 0;
}
