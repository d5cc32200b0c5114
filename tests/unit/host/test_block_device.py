"""Which disk the kernel can throttle for a path: a whole one, and none for filesystems without a device."""

import os
from pathlib import Path

import pytest

from agentvm.host.block_device import BlockDevice, disk_of, disks_below


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    """The disk 8:0 with its partition 8:2, and a device mapper's 253:1, linked as sysfs does."""
    disk = tmp_path / "devices" / "pci" / "sda"
    mapped = tmp_path / "devices" / "virtual" / "dm-1"
    for place, number, node in (
        (disk, "8:0", "sda"),
        (disk / "sda2", "8:2", "sda2"),
        (mapped, "253:1", "dm-1"),
    ):
        place.mkdir(parents=True)
        (place / "dev").write_text(f"{number}\n")
        (place / "uevent").write_text(f"MAJOR={number.split(':')[0]}\nDEVNAME={node}\nDEVTYPE=disk\n")
    (disk / "sda2" / "partition").write_text("2\n")
    links = tmp_path / "dev" / "block"
    links.mkdir(parents=True)
    for number, place in (("8:0", disk), ("8:2", disk / "sda2"), ("253:1", mapped)):
        (links / number).symlink_to(place)
    return links


def test_a_disk_is_itself(sysfs: Path) -> None:
    assert disk_of(os.makedev(8, 0), sysfs=sysfs) == BlockDevice("8:0", "/dev/sda")
    assert disk_of(os.makedev(253, 1), sysfs=sysfs) == BlockDevice("253:1", "/dev/dm-1")


def test_a_partition_counts_as_its_disk(sysfs: Path) -> None:
    assert disk_of(os.makedev(8, 2), sysfs=sysfs) == BlockDevice("8:0", "/dev/sda")


def test_a_filesystem_without_a_device_has_no_disk(sysfs: Path) -> None:
    assert disk_of(os.makedev(0, 25), sysfs=sysfs) is None


def test_a_device_that_sysfs_does_not_show_has_no_disk(sysfs: Path) -> None:
    assert disk_of(os.makedev(9, 9), sysfs=sysfs) is None
    (sysfs / "8:0" / "uevent").write_text("MAJOR=8\n")
    assert disk_of(os.makedev(8, 0), sysfs=sysfs) is None


def test_paths_without_a_disk_are_named_and_disks_come_once(sysfs: Path, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    assert disks_below("/proc", missing, sysfs=sysfs) == ((), ("/proc", missing))
    device = os.stat(tmp_path).st_dev
    link = sysfs / f"{os.major(device)}:{os.minor(device)}"
    if not os.path.lexists(link):
        link.symlink_to(sysfs / "8:2")
    expected = () if os.major(device) == 0 else (BlockDevice("8:0", "/dev/sda"),)
    assert disks_below(str(tmp_path), str(sysfs), sysfs=sysfs).found == expected


def test_this_machines_own_disks_are_block_devices() -> None:
    for disk in disks_below("/", "/tmp", "/var", "/home", "/boot").found:
        major, minor = map(int, disk.number.split(":"))
        assert major > 0
        node = Path(disk.node)
        if node.exists():
            assert os.stat(node).st_rdev == os.makedev(major, minor)
