"""What every VM's filesystem starts with. All VMs share the files' bytes; one that writes gets a copy of its own."""

from agentvm.kernel.credentials import DEFAULT_GID, DEFAULT_UID

__all__ = ["BASE_DIRECTORIES", "BASE_FILES", "DEFAULT_USER", "HOME"]

#: The user that programs run as unless the host asks for another one.
DEFAULT_USER = b"user"
#: Its home directory.
HOME = b"/home/" + DEFAULT_USER

_PASSWD = b"""\
root:x:0:0:root:/:/bin/sh
%(user)s:x:%(uid)d:%(gid)d::%(home)s:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/false
""" % {b"user": DEFAULT_USER, b"uid": DEFAULT_UID, b"gid": DEFAULT_GID, b"home": HOME}
_GROUP = b"""\
root:x:0:
%(user)s:x:%(gid)d:
nogroup:x:65534:
""" % {b"user": DEFAULT_USER, b"gid": DEFAULT_GID}

#: The directories, each after the one above it, and the files with what is in them. Paths are relative to the root.
BASE_DIRECTORIES = (b"bin", b"dev", b"etc", b"home", b"proc", b"tmp", HOME[1:])
BASE_FILES = {b"etc/passwd": _PASSWD, b"etc/group": _GROUP}
