"""Who a process is: its user and group ids, and the rules by which it may change them. Source: credentials(7)."""

from dataclasses import dataclass, replace

__all__ = ["DEFAULT_GID", "DEFAULT_UID", "Credentials"]

DEFAULT_UID = DEFAULT_GID = 1000


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

    def without_effective(self) -> "Credentials":
        """Return these with the effective ids set to the real ones (POSIX_SPAWN_RESETIDS)."""
        return replace(self, euid=self.uid, egid=self.gid)
