"""Which disk a path lies on, as the kernel numbers it. Sources: stat(2), Documentation/ABI/stable/sysfs-block."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

__all__ = ["BlockDevice", "Disks", "disk_of", "disks_below"]

_SYSFS = Path("/sys/dev/block")


@dataclass(frozen=True, slots=True)
class BlockDevice:
    """A whole disk: its number as io.max takes it ("8:0"), and its node ("/dev/sda")."""

    number: str
    node: str


class Disks(NamedTuple):
    """The disks under some paths, and the paths that have none that the kernel could throttle."""

    found: tuple[BlockDevice, ...]
    without: tuple[str, ...]


def disk_of(device: int, *, sysfs: Path = _SYSFS) -> BlockDevice | None:
    """Return the disk of an `st_dev`; for a partition the whole disk, since io.max takes no other.

    None for a filesystem without a device of its own (major 0: tmpfs, overlay, btrfs, a network's).
    """
    if os.major(device) == 0:
        return None
    place = sysfs / f"{os.major(device)}:{os.minor(device)}"
    try:
        place = place.resolve(strict=True)
        if (place / "partition").exists():
            place = place.parent
        number = (place / "dev").read_text().strip()
        fields = dict(line.split("=", 1) for line in (place / "uevent").read_text().splitlines())
        return BlockDevice(number, "/dev/" + fields["DEVNAME"])
    except (OSError, KeyError, ValueError):
        return None


def disks_below(*paths: str, sysfs: Path = _SYSFS) -> Disks:
    """Return the disks under `paths`, each once, and the paths under which there is none."""
    found: dict[BlockDevice, None] = {}
    without = []
    for path in paths:
        try:
            disk = disk_of(os.stat(path).st_dev, sysfs=sysfs)
        except OSError:
            disk = None
        if disk is None:
            without.append(os.path.abspath(path))
        else:
            found[disk] = None
    return Disks(tuple(found), tuple(without))
