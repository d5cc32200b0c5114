"""Who a process is: its user and group ids, and the rules by which it may change them.

Source: credentials(7), setuid(2), setreuid(2), setresuid(2), setgroups(2). The one privilege: the effective user 0.
"""

from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from agentvm.errno import Errno, KernelError

__all__ = ["DEFAULT_GID", "DEFAULT_UID", "MAX_GROUPS", "ROOT", "SAME", "Credentials", "Ids"]

DEFAULT_UID = DEFAULT_GID = 1000
ROOT = 0
#: In the place of an id: leave it as it is.
SAME: Final = 0xFFFF_FFFF
#: Supplementary groups of one process.
MAX_GROUPS: Final = 64


class Ids(NamedTuple):
    """The three ids of a kind. A change makes others, or is refused: EPERM, EINVAL."""

    real: int
    effective: int
    saved: int

    def set_one(self, number: int, *, is_root: bool) -> "Ids":
        """setuid(2): root changes all three for good, others go back to their real or saved id."""
        _check(number)
        if is_root:
            return Ids(number, number, number)
        self._require(number, self.real, self.saved)
        return self._replace(effective=number)

    def set_effective(self, number: int, *, is_root: bool) -> "Ids":
        """seteuid(2)."""
        _check(number)
        return self.set_all(SAME, number, SAME, is_root=is_root)

    def set_two(self, real: int, effective: int, *, is_root: bool) -> "Ids":
        """setreuid(2)."""
        if not is_root:
            self._require(real, self.real, self.effective)
            self._require(effective, *self)
        now = Ids(_or(real, self.real), _or(effective, self.effective), self.saved)
        if real != SAME or effective not in (SAME, self.real):
            now = now._replace(saved=now.effective)
        return now

    def set_all(self, real: int, effective: int, saved: int, *, is_root: bool) -> "Ids":
        """setresuid(2)."""
        if not is_root:
            for number in (real, effective, saved):
                self._require(number, *self)
        return Ids(_or(real, self.real), _or(effective, self.effective), _or(saved, self.saved))

    def _require(self, number: int, *allowed: int) -> None:
        if number != SAME and number not in allowed:
            raise KernelError(Errno.EPERM, f"id {number} is none of {', '.join(map(str, allowed))}")


def _or(number: int, before: int) -> int:
    return before if number == SAME else number


def _check(number: int) -> None:
    if number == SAME:
        raise KernelError(Errno.EINVAL, f"{number} is no id")


@dataclass(frozen=True, slots=True)
class Credentials:
    """Real, effective and saved ids, and the supplementary groups. Immutable: a change makes another."""

    uid: int = DEFAULT_UID
    euid: int = DEFAULT_UID
    suid: int = DEFAULT_UID
    gid: int = DEFAULT_GID
    egid: int = DEFAULT_GID
    sgid: int = DEFAULT_GID
    groups: tuple[int, ...] = ()

    @classmethod
    def of(cls, uid: int, gid: int, groups: tuple[int, ...] = ()) -> "Credentials":
        """Return those of a process that is `uid` and `gid` in every way."""
        return cls(uid, uid, uid, gid, gid, gid, groups)

    @property
    def is_root(self) -> bool:
        """Whether it may do what is root's alone."""
        return self.euid == ROOT

    @property
    def user_ids(self) -> Ids:
        return Ids(self.uid, self.euid, self.suid)

    @property
    def group_ids(self) -> Ids:
        return Ids(self.gid, self.egid, self.sgid)

    def with_user_ids(self, ids: Ids) -> "Credentials":
        return replace(self, uid=ids.real, euid=ids.effective, suid=ids.saved)

    def with_group_ids(self, ids: Ids) -> "Credentials":
        return replace(self, gid=ids.real, egid=ids.effective, sgid=ids.saved)

    def check_groups(self, count: int) -> None:
        """Raise what setgroups(2) does for so many supplementary groups: EPERM, EINVAL."""
        if not self.is_root:
            raise KernelError(Errno.EPERM, f"user {self.euid} cannot set groups")
        if count > MAX_GROUPS:
            raise KernelError(Errno.EINVAL, f"{count} groups, and {MAX_GROUPS} are the most")

    @property
    def owns_by_default(self) -> tuple[int, int] | None:
        """Who owns the files that the process makes; None for the default owner."""
        if self.euid == DEFAULT_UID and self.egid == DEFAULT_GID:
            return None
        return self.euid, self.egid

    def without_effective(self) -> "Credentials":
        """Return these with the effective ids set to the real ones (POSIX_SPAWN_RESETIDS)."""
        return replace(self, euid=self.uid, egid=self.gid)

    def executed(self) -> "Credentials":
        """Return these as another program has them: the effective ids are saved (execve(2))."""
        if self.suid == self.euid and self.sgid == self.egid:
            return self
        return replace(self, suid=self.euid, sgid=self.egid)

    def may_look_into(self, other: "Credentials") -> bool:
        """Whether a process with these may see what another one's owner alone may (ptrace(2), access mode checking)."""
        return self.is_root or (
            {other.uid, other.euid, other.suid} == {self.uid} and {other.gid, other.egid, other.sgid} == {self.gid}
        )
