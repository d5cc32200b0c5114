/* <sys/stat.h>: the file's whole mode, owner and blocks, umask, FIFOs, chmod and chown.
   Preview 1 has a file type but no permission bits; the host adds them in calls of their own. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <wasi/api.h>

#include "internal.h"

#define SECOND 1000000000ull

static struct timespec moment(__wasi_timestamp_t when) {
  return (struct timespec){.tv_sec = (time_t)(when / SECOND), .tv_nsec = (long)(when % SECOND)};
}

static void from_host(const __wasi_filestat_t *in, struct stat *out) {
  static const mode_t kinds[] = {[__WASI_FILETYPE_BLOCK_DEVICE] = S_IFBLK,
                                 [__WASI_FILETYPE_CHARACTER_DEVICE] = S_IFCHR,
                                 [__WASI_FILETYPE_DIRECTORY] = S_IFDIR,
                                 [__WASI_FILETYPE_REGULAR_FILE] = S_IFREG,
                                 [__WASI_FILETYPE_SOCKET_DGRAM] = S_IFSOCK,
                                 [__WASI_FILETYPE_SOCKET_STREAM] = S_IFSOCK,
                                 [__WASI_FILETYPE_SYMBOLIC_LINK] = S_IFLNK};
  *out = (struct stat){.st_dev = in->dev,
                       .st_ino = in->ino,
                       .st_nlink = in->nlink,
                       .st_size = (off_t)in->size,
                       .st_blksize = 4096,
                       .st_atim = moment(in->atim),
                       .st_mtim = moment(in->mtim),
                       .st_ctim = moment(in->ctim)};
  if (in->filetype < sizeof kinds / sizeof *kinds) out->st_mode = kinds[in->filetype];
}

static int is_device(const struct stat *status) { return S_ISCHR(status->st_mode) || S_ISBLK(status->st_mode); }

OVERRIDE int fstat(int fd, struct stat *out) {
  __wasi_filestat_t status;
  if (result(__wasi_fd_filestat_get((__wasi_fd_t)fd, &status)) != 0) return -1;
  from_host(&status, out);
  mode_t mode = (mode_t)abi_fd_mode(fd);
  if (mode) out->st_mode = mode;
  if (abi_fd_owner(fd, &out->st_uid, &out->st_gid) != 0) out->st_uid = out->st_gid = 0;
  int64_t blocks = abi_fd_blocks(fd);
  out->st_blocks = blocks >= 0 ? blocks : (out->st_size + 511) / 512;
  return 0;
}

OVERRIDE int fstatat(int dirfd, const char *restrict path, struct stat *restrict out, int flags) {
  struct place place;
  __wasi_filestat_t status;
  int follow = !(flags & AT_SYMLINK_NOFOLLOW);
  if (__agentvm_place(&place, dirfd, path) != 0) return -1;
  uint32_t lookup = follow ? __WASI_LOOKUPFLAGS_SYMLINK_FOLLOW : 0;
  if (result(__wasi_path_filestat_get((__wasi_fd_t)place.dirfd, lookup, place.path, &status)) != 0) return -1;
  from_host(&status, out);
  mode_t mode = (mode_t)abi_path_mode(place.dirfd, place.path, place.len, follow);
  if (mode) out->st_mode = mode;
  if (abi_path_owner(place.dirfd, place.path, place.len, follow, &out->st_uid, &out->st_gid) != 0)
    out->st_uid = out->st_gid = 0;
  int64_t blocks = abi_path_blocks(place.dirfd, place.path, place.len, follow);
  out->st_blocks = blocks >= 0 ? blocks : (out->st_size + 511) / 512;
  if (is_device(out)) out->st_rdev = (dev_t)abi_path_rdev(place.dirfd, place.path, place.len, follow);
  return 0;
}

OVERRIDE int __wasilibc_nocwd_fstatat(int dirfd, const char *restrict path, struct stat *restrict out, int flags) {
  return fstatat(dirfd, path, out, flags);
}

OVERRIDE int stat(const char *restrict path, struct stat *restrict out) { return fstatat(AT_FDCWD, path, out, 0); }

OVERRIDE int lstat(const char *restrict path, struct stat *restrict out) {
  return fstatat(AT_FDCWD, path, out, AT_SYMLINK_NOFOLLOW);
}

OVERRIDE int __wasilibc_stat(const char *restrict path, struct stat *restrict out, int flags) {
  return fstatat(AT_FDCWD, path, out, flags);
}

mode_t umask(mode_t mask) {
  uint32_t old = 022;
  if (result(abi_umask(mask & 0777, &old)) != 0) return 022;
  return (mode_t)old;
}

OVERRIDE int fchmodat(int dirfd, const char *path, mode_t mode, int flags) {
  struct place place;
  if (flags) { /* Linux cannot change the mode of a symbolic link either */
    errno = flags == AT_SYMLINK_NOFOLLOW ? ENOTSUP : EINVAL;
    return -1;
  }
  if (__agentvm_place(&place, dirfd, path) != 0) return -1;
  return result(abi_chmod(place.dirfd, place.path, place.len, mode & 07777));
}

OVERRIDE int chmod(const char *path, mode_t mode) { return fchmodat(AT_FDCWD, path, mode, 0); }
OVERRIDE int fchmod(int fd, mode_t mode) { return result(abi_fchmod(fd, mode & 07777)); }
int lchmod(const char *path, mode_t mode) { return fchmodat(AT_FDCWD, path, mode, AT_SYMLINK_NOFOLLOW); }

/* path_create_directory has no mode and makes 0777 less the umask; another mode is set afterwards. */
OVERRIDE int mkdirat(int dirfd, const char *path, mode_t mode) {
  struct place place;
  if (__agentvm_place(&place, dirfd, path) != 0) return -1;
  if (result(__wasi_path_create_directory((__wasi_fd_t)place.dirfd, place.path)) != 0) return -1;
  if ((mode & 01777) == 0777) return 0;
  uint32_t mask = 0, ignored;
  if (abi_umask(0, &mask) == 0) (void)!abi_umask(mask, &ignored);
  return result(abi_chmod(place.dirfd, place.path, place.len, mode & 01777 & ~mask));
}

OVERRIDE int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }
OVERRIDE int __wasilibc_nocwd_mkdirat_nomode(int dirfd, const char *path) { return mkdirat(dirfd, path, 0777); }

int mknodat(int dirfd, const char *path, mode_t mode, dev_t device) {
  struct place place;
  if (__agentvm_place(&place, dirfd, path) != 0) return -1;
  return result(abi_mknod(place.dirfd, place.path, place.len, mode, device));
}

int mknod(const char *path, mode_t mode, dev_t device) { return mknodat(AT_FDCWD, path, mode, device); }
int mkfifoat(int dirfd, const char *path, mode_t mode) { return mknodat(dirfd, path, (mode & 07777) | S_IFIFO, 0); }
int mkfifo(const char *path, mode_t mode) { return mkfifoat(AT_FDCWD, path, mode); }

int fchownat(int dirfd, const char *path, uid_t uid, gid_t gid, int flags) {
  struct place place;
  if (flags & ~AT_SYMLINK_NOFOLLOW) {
    errno = EINVAL;
    return -1;
  }
  if (__agentvm_place(&place, dirfd, path) != 0) return -1;
  return result(abi_chown(place.dirfd, place.path, place.len, uid, gid, !(flags & AT_SYMLINK_NOFOLLOW)));
}

int chown(const char *path, uid_t uid, gid_t gid) { return fchownat(AT_FDCWD, path, uid, gid, 0); }
int lchown(const char *path, uid_t uid, gid_t gid) { return fchownat(AT_FDCWD, path, uid, gid, AT_SYMLINK_NOFOLLOW); }
int fchown(int fd, uid_t uid, gid_t gid) { return result(abi_fchown(fd, uid, gid)); }

OVERRIDE int statvfs(const char *restrict path, struct statvfs *restrict out) {
  struct place place;
  uint64_t total, used, available, inodes, free_inodes;
  if (__agentvm_place(&place, AT_FDCWD, path) != 0) return -1;
  if (result(abi_statfs(place.dirfd, place.path, place.len, &total, &used, &available, &inodes, &free_inodes)) != 0)
    return -1;
  memset(out, 0, sizeof *out);
  out->f_bsize = out->f_frsize = 4096;
  out->f_blocks = (fsblkcnt_t)(total / 4096);
  out->f_bfree = (fsblkcnt_t)((total > used ? total - used : 0) / 4096);
  out->f_bavail = (fsblkcnt_t)(available / 4096);
  out->f_files = (fsfilcnt_t)inodes;
  out->f_ffree = out->f_favail = (fsfilcnt_t)free_inodes;
  out->f_namemax = 255;
  return 0;
}

OVERRIDE int fstatvfs(int fd, struct statvfs *out) { /* there is no call for a descriptor: the one file system is "/" */
  struct stat status;
  return fstat(fd, &status) != 0 ? -1 : statvfs("/", out);
}
