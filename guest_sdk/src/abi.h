/* The host ABI `agentos-wasm-host-v1`: every host call that the SDK makes, declared once and nowhere else.
   A call returns a WASI errno (0 is success) unless its comment says otherwise. Text is (pointer, length). */
#ifndef AGENTVM_ABI_H
#define AGENTVM_ABI_H

#include <stddef.h>
#include <stdint.h>

#define HOST(module, name) __attribute__((__import_module__(#module), __import_name__(#name), __warn_unused_result__)) int32_t
#define HOST64(module, name) __attribute__((__import_module__(#module), __import_name__(#name))) int64_t

/* Processes. Argument and environment blocks are NUL-terminated strings, one after the other. */
HOST(host_process, proc_spawn_v4)
abi_spawn(const char *exe, size_t exe_len, const char *argv, size_t argv_len, const char *env, size_t env_len,
          const void *actions, size_t actions_len, const char *cwd, size_t cwd_len, const char *search_path,
          size_t search_path_len, uint32_t flags, uint32_t default_lo, uint32_t default_hi, uint32_t mask_lo,
          uint32_t mask_hi, int32_t pgroup, int32_t policy, int32_t priority, int32_t *ret_pid);
HOST(host_process, proc_exec)
abi_exec(const char *exe, size_t exe_len, const char *argv, size_t argv_len, const char *env, size_t env_len,
         const uint32_t *close_fds, size_t close_count);
HOST(host_process, proc_fexec)
abi_fexec(int32_t fd, const char *argv, size_t argv_len, const char *env, size_t env_len, const uint32_t *close_fds,
          size_t close_count);
HOST(host_process, proc_waitpid_v3) abi_waitpid(int32_t pid, int32_t options, int32_t *ret_status, int32_t *ret_pid);
HOST(host_process, proc_getpid) abi_getpid(int32_t *ret);
HOST(host_process, proc_getppid) abi_getppid(int32_t *ret);
HOST(host_process, proc_getpgid) abi_getpgid(int32_t pid, int32_t *ret);
HOST(host_process, proc_setpgid) abi_setpgid(int32_t pid, int32_t pgid);
HOST(host_process, proc_closefrom) abi_closefrom(int32_t low);
HOST(host_process, proc_getrlimit) abi_getrlimit(int32_t resource, uint64_t *soft, uint64_t *hard);
HOST(host_process, proc_setrlimit) abi_setrlimit(int32_t resource, uint64_t soft, uint64_t hard);
HOST(host_process, proc_umask) abi_umask(uint32_t mask, uint32_t *ret_old);

/* Signals. A mask is two words, bit (signal - 1). */
HOST(host_process, proc_kill) abi_kill(int32_t pid, int32_t sig);
HOST(host_process, proc_sigaction)
abi_sigaction(int32_t sig, int32_t action, uint32_t mask_lo, uint32_t mask_hi, uint32_t flags);
HOST(host_process, proc_signal_mask_v2)
abi_signal_mask(int32_t how, uint32_t lo, uint32_t hi, uint32_t *old_lo, uint32_t *old_hi);
HOST(host_process, proc_ppoll_v1)
abi_ppoll(void *fds, size_t count, int64_t seconds, int64_t nanoseconds, uint32_t mask_lo, uint32_t mask_hi,
          int32_t has_mask, int32_t *ret_ready);
HOST(host_process, proc_itimer_real)
abi_itimer(int32_t op, int64_t value_us, int64_t interval_us, uint64_t *old_value, uint64_t *old_interval);

/* Descriptors. */
HOST(host_process, fd_pipe) abi_pipe(int32_t *ret_read, int32_t *ret_write);
HOST(host_process, fd_dup) abi_dup(int32_t fd, int32_t *ret);
HOST(host_process, fd_dup2) abi_dup2(int32_t fd, int32_t target);
HOST(host_process, fd_dup_min) abi_dup_min(int32_t fd, int32_t minimum, int32_t *ret);
HOST(host_process, fd_getfd) abi_getfd(int32_t fd, int32_t *ret_flags);
HOST(host_process, fd_setfd) abi_setfd(int32_t fd, int32_t flags);
HOST(host_process, fd_flock) abi_flock(int32_t fd, int32_t operation);
HOST(host_process, fd_record_lock)
abi_record_lock(int32_t fd, int32_t command, int32_t type, int64_t start, int64_t len, int32_t *ret_type,
                int32_t *ret_pid, uint64_t *ret_start, uint64_t *ret_len);
HOST(host_process, fd_socketpair)
abi_socketpair(int32_t kind, int32_t nonblock, int32_t cloexec, int32_t *ret_first, int32_t *ret_second);
HOST(host_process, fd_sendmsg_rights)
abi_sendmsg_rights(int32_t fd, const void *data, size_t len, const int32_t *rights, size_t count, int32_t flags,
                   size_t *ret_sent);
HOST(host_process, fd_recvmsg_rights)
abi_recvmsg_rights(int32_t fd, void *data, size_t cap, int32_t *rights, size_t rights_cap, int32_t flags,
                   size_t *ret_len, size_t *ret_rights, uint32_t *ret_flags);

/* Sockets. An address is text: "127.0.0.1:80", "[::1]:80", "unix:/path", "unix-abstract:HEX", "unix-unnamed". */
HOST(host_net, net_socket) abi_socket(int32_t domain, int32_t type, int32_t protocol, int32_t *ret_fd);
HOST(host_net, net_connect) abi_connect(int32_t fd, const char *addr, size_t len);
HOST(host_net, net_bind) abi_bind(int32_t fd, const char *addr, size_t len);
HOST(host_net, net_listen) abi_listen(int32_t fd, int32_t backlog);
HOST(host_net, net_accept) abi_accept(int32_t fd, int32_t *ret_fd, char *addr, size_t *len);
HOST(host_net, net_validate_socket) abi_validate_socket(int32_t fd);
HOST(host_net, net_getsockname) abi_getsockname(int32_t fd, char *addr, size_t *len);
HOST(host_net, net_getpeername) abi_getpeername(int32_t fd, char *addr, size_t *len);
HOST(host_net, net_send) abi_send(int32_t fd, const void *data, size_t len, int32_t flags, size_t *ret_sent);
HOST(host_net, net_recv) abi_recv(int32_t fd, void *data, size_t cap, int32_t flags, size_t *ret_len);
HOST(host_net, net_sendto)
abi_sendto(int32_t fd, const void *data, size_t len, int32_t flags, const char *addr, size_t addr_len,
           size_t *ret_sent);
HOST(host_net, net_recvfrom)
abi_recvfrom(int32_t fd, void *data, size_t cap, int32_t flags, size_t *ret_len, char *addr, size_t *addr_len);
HOST(host_net, net_setsockopt) abi_setsockopt(int32_t fd, int32_t level, int32_t name, const void *value, size_t len);
HOST(host_net, net_getsockopt) abi_getsockopt(int32_t fd, int32_t level, int32_t name, void *value, size_t *len);
HOST(host_net, net_poll) abi_poll(void *fds, size_t count, int32_t timeout_ms, int32_t *ret_ready);
HOST(host_net, net_close) abi_close(int32_t fd);
HOST(host_net, net_getaddrinfo)
abi_getaddrinfo(const char *host, size_t host_len, const char *port, size_t port_len, int32_t family, char *json,
                size_t *json_len);

/* Users. A passwd or group record is one line of /etc/passwd or /etc/group. */
HOST(host_user, getuid) abi_getuid(uint32_t *ret);
HOST(host_user, getgid) abi_getgid(uint32_t *ret);
HOST(host_user, geteuid) abi_geteuid(uint32_t *ret);
HOST(host_user, getegid) abi_getegid(uint32_t *ret);
HOST(host_user, getresuid) abi_getresuid(uint32_t *real, uint32_t *effective, uint32_t *saved);
HOST(host_user, getresgid) abi_getresgid(uint32_t *real, uint32_t *effective, uint32_t *saved);
HOST(host_user, setuid) abi_setuid(uint32_t id);
HOST(host_user, seteuid) abi_seteuid(uint32_t id);
HOST(host_user, setgid) abi_setgid(uint32_t id);
HOST(host_user, setegid) abi_setegid(uint32_t id);
HOST(host_user, setreuid) abi_setreuid(uint32_t real, uint32_t effective);
HOST(host_user, setregid) abi_setregid(uint32_t real, uint32_t effective);
HOST(host_user, setresuid) abi_setresuid(uint32_t real, uint32_t effective, uint32_t saved);
HOST(host_user, setresgid) abi_setresgid(uint32_t real, uint32_t effective, uint32_t saved);
HOST(host_user, getgroups) abi_getgroups(size_t size, uint32_t *groups, size_t *ret_count);
HOST(host_user, setgroups) abi_setgroups(size_t count, const uint32_t *groups);
HOST(host_user, isatty) abi_isatty(int32_t fd, int32_t *ret);
HOST(host_user, getpwuid) abi_getpwuid(uint32_t uid, char *line, size_t cap, size_t *ret_len);
HOST(host_user, getpwnam) abi_getpwnam(const char *name, size_t name_len, char *line, size_t cap, size_t *ret_len);
HOST(host_user, getpwent) abi_getpwent(uint32_t index, char *line, size_t cap, size_t *ret_len);
HOST(host_user, getgrgid) abi_getgrgid(uint32_t gid, char *line, size_t cap, size_t *ret_len);
HOST(host_user, getgrnam) abi_getgrnam(const char *name, size_t name_len, char *line, size_t cap, size_t *ret_len);
HOST(host_user, getgrent) abi_getgrent(uint32_t index, char *line, size_t cap, size_t *ret_len);

/* The terminal (its errors are Linux numbers) and the system. */
HOST(host_tty, get_size) abi_tty_size(int32_t fd, uint16_t *columns, uint16_t *rows);
HOST(host_system, get_identity) abi_identity(int32_t field, char *text, size_t cap);

/* Files, beyond preview 1. path_mode and fd_mode return st_mode, 0 on an error. */
HOST(host_fs, set_open_mode) abi_set_open_mode(uint32_t mode);
HOST(host_fs, chmod) abi_chmod(int32_t dirfd, const char *path, size_t len, uint32_t mode);
HOST(host_fs, fchmod) abi_fchmod(int32_t fd, uint32_t mode);
HOST(host_fs, path_chown)
abi_chown(int32_t dirfd, const char *path, size_t len, uint32_t uid, uint32_t gid, int32_t follow);
HOST(host_fs, fd_chown) abi_fchown(int32_t fd, uint32_t uid, uint32_t gid);
HOST(host_fs, path_access) abi_access(int32_t dirfd, const char *path, size_t len, int32_t mode, int32_t effective);
HOST(host_fs, path_mode) abi_path_mode(int32_t dirfd, const char *path, size_t len, int32_t follow);
HOST(host_fs, fd_mode) abi_fd_mode(int32_t fd);
HOST(host_fs, path_owner)
abi_path_owner(int32_t dirfd, const char *path, size_t len, int32_t follow, uint32_t *uid, uint32_t *gid);
HOST(host_fs, fd_owner) abi_fd_owner(int32_t fd, uint32_t *uid, uint32_t *gid);
HOST64(host_fs, path_blocks) abi_path_blocks(int32_t dirfd, const char *path, size_t len, int32_t follow);
HOST64(host_fs, fd_blocks) abi_fd_blocks(int32_t fd);
HOST64(host_fs, path_rdev) abi_path_rdev(int32_t dirfd, const char *path, size_t len, int32_t follow);
HOST(host_fs, path_statfs)
abi_statfs(int32_t dirfd, const char *path, size_t len, uint64_t *total, uint64_t *used, uint64_t *available,
           uint64_t *inodes, uint64_t *free_inodes);
HOST(host_fs, path_mknod)
abi_mknod(int32_t dirfd, const char *path, size_t len, uint32_t mode, uint64_t rdev);

#endif
