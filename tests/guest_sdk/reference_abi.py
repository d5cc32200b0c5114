"""What the reference product's host ABI offers, `agentos-wasm-host-v1`: the names and types of its calls.

Types are those of WebAssembly, one letter a value: `i` is i32, `I` is i64. A call returns one i32 (an errno) unless its
entry has an arrow. A program that imports anything else does not start there.
"""

__all__ = ["REFERENCE", "Signature"]

Signature = tuple[str, str]

_PREVIEW1 = """
args_get ii
args_sizes_get ii
clock_res_get ii
clock_time_get iIi
environ_get ii
environ_sizes_get ii
fd_allocate iII
fd_close i
fd_datasync i
fd_fdstat_get ii
fd_fdstat_set_flags ii
fd_filestat_get ii
fd_filestat_set_size iI
fd_filestat_set_times iIIi
fd_pread iiiIi
fd_prestat_dir_name iii
fd_prestat_get ii
fd_pwrite iiiIi
fd_read iiii
fd_readdir iiiIi
fd_renumber ii
fd_seek iIii
fd_sync i
fd_tell ii
fd_write iiii
path_create_directory iii
path_filestat_get iiiii
path_filestat_set_times iiiiIIi
path_link iiiiiii
path_open iiiiiIIii
path_readlink iiiiii
path_remove_directory iii
path_rename iiiiii
path_symlink iiiii
path_unlink_file iii
poll_oneoff iiii
proc_exit i->
random_get ii
sched_yield
sock_shutdown ii
"""

_PROCESS = """
fd_dup ii
fd_dup2 ii
fd_dup_min iii
fd_flock ii
fd_getfd ii
fd_pipe ii
fd_record_lock iiiIIiiii
fd_recvmsg_rights iiiiiiiii
fd_sendmsg_rights iiiiiii
fd_setfd ii
fd_socketpair iiiii
proc_closefrom i
proc_exec iiiiiiii
proc_fexec iiiiiii
proc_getpgid ii
proc_getpid i
proc_getppid i
proc_getrlimit iii
proc_itimer_real iIIii
proc_kill ii
proc_ppoll_v1 iiIIiiii
proc_setpgid ii
proc_setrlimit iII
proc_sigaction iiiii
proc_signal_mask_v2 iiiii
proc_spawn iiiiiiiiii
proc_spawn_v2 iiiiiiiiiiii
proc_spawn_v3 iiiiiiiiiiiiiiiii
proc_spawn_v4 iiiiiiiiiiiiiiiiiiiii
proc_umask ii
proc_waitpid iiii
proc_waitpid_v2 iiiiii
proc_waitpid_v3 iiii
pty_open ii
sched_yield
sleep_ms i
umask iii
"""

_NET = """
net_accept iiii
net_bind iii
net_close i
net_connect iii
net_dns_query_rr_v1 iiiiiiii
net_getaddrinfo iiiiiii
net_getpeername iii
net_getsockname iii
net_getsockopt iiiii
net_listen ii
net_poll iiii
net_recv iiiii
net_recvfrom iiiiiii
net_send iiiii
net_sendto iiiiiii
net_set_nonblock ii
net_setsockopt iiiii
net_socket iiii
net_tls_connect iii
net_validate_accept i
net_validate_socket i
"""

_USER = """
getegid i
geteuid i
getgid i
getgrent iiii
getgrgid iiii
getgrnam iiiii
getgroups iii
getpwent iiii
getpwnam iiiii
getpwuid iiii
getresgid iii
getresuid iii
getuid i
isatty ii
setegid i
seteuid i
setgid i
setgroups ii
setregid ii
setresgid iii
setresuid iii
setreuid ii
setuid i
"""

_TTY = """
get_attr iii
get_pgrp ii
get_sid ii
get_size iii
isatty i
read iii
set_attr iii
set_pgrp ii
set_raw_mode i
set_size iii
"""

_FS = """
chmod iiii
chown iiiiii
fchmod ii
fchown iii
fd_blocks i->I
fd_chown iii
fd_collapse_range iII
fd_fiemap iiiii
fd_getxattr iiiiii
fd_insert_range iII
fd_link iiii
fd_listxattr iiii
fd_mode i
fd_owner iii
fd_punch_hole iII
fd_removexattr iii
fd_setxattr iiiiii
fd_size i->I
fd_zero_range iIIi
ftruncate iI
open_tmpfile iiiiii
path_access iiiii
path_blocks iiii->I
path_chown iiiiii
path_getxattr iiiiiiiii
path_listxattr iiiiiii
path_mknod iiiiI
path_mode iiii
path_owner iiiiii
path_rdev iiii->I
path_removexattr iiiiii
path_renameat2 iiiiiii
path_setxattr iiiiiiiii
path_size iiii->I
path_statfs iiiiiiii
remount iiii
set_open_direct i
set_open_mode i
"""


def _table(module: str, text: str) -> dict[tuple[str, str], Signature]:
    table = {}
    for line in text.split("\n"):
        name, _, types = line.partition(" ")
        parameters, arrow, results = types.partition("->")
        if name:
            table[module, name] = (parameters, results if arrow else "i")
    return table


#: (module, name) of each call to its (parameters, results).
REFERENCE: dict[tuple[str, str], Signature] = {
    **_table("wasi_snapshot_preview1", _PREVIEW1),
    **_table("host_process", _PROCESS),
    **_table("host_net", _NET),
    **_table("host_user", _USER),
    **_table("host_tty", _TTY),
    **_table("host_system", "get_identity iii"),
    **_table("host_fs", _FS),
}
