"""The cache on disk trusts nothing but its own undamaged files in a directory that is the user's alone."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentvm.engine.capacity import HostCapacity
from agentvm.engine.digest import digest, digest_file
from agentvm.engine.disk_cache import DiskCache, Stored, default_directory
from agentvm.limits.host_catalogue import HostLimits

ROOT = str(Path(__file__).parents[3])
CODE = bytes(range(256)) * 40


def _capacity(**limits: int) -> HostCapacity:
    return HostCapacity(HostLimits(**limits))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def cache(directory: Path) -> Iterator[DiskCache]:
    cache = DiskCache(str(directory), _capacity())
    yield cache
    cache.close()


def _store(cache: DiskCache, key: str, code: bytes = CODE, info: bytes = b"{}", contents: bytes = b"data") -> bool:
    source = os.memfd_create("code")
    os.write(source, code)
    fd = cache.store(key, source, info, 4096, contents)
    os.close(source)
    if fd >= 0:
        os.close(fd)
    return fd >= 0


def _load(cache: DiskCache, key: str) -> Stored | None:
    stored = cache.load(key)
    if stored is not None:
        os.close(stored.fd)
    return stored


def test_what_was_stored_comes_back(cache: DiskCache) -> None:
    assert _load(cache, "k") is None
    assert _store(cache, "k", info=b"info", contents=b"contents")
    stored = cache.load("k")
    assert stored is not None
    assert os.pread(stored.fd, stored.code_bytes, 0) == CODE
    assert (stored.info, stored.offset, stored.contents) == (b"info", 4096, b"contents")
    os.close(stored.fd)


def test_directory_and_files_are_the_users_alone(cache: DiskCache, directory: Path) -> None:
    old = os.umask(0)
    try:
        _store(cache, "k")
    finally:
        os.umask(old)
    assert directory.stat().st_mode & 0o777 == 0o700
    assert (directory / "k.cwasm").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("at", [0, 100, len(CODE) + 1, -1, -40, -70], ids=str)
def test_a_tampered_file_is_removed(
    cache: DiskCache, directory: Path, at: int, caplog: pytest.LogCaptureFixture
) -> None:
    _store(cache, "k")
    path = directory / "k.cwasm"
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    with caplog.at_level(logging.WARNING, "agentvm"):
        assert _load(cache, "k") is None
    assert "damaged" in caplog.text
    assert not path.exists()


@pytest.mark.parametrize("size", [0, 10, 71, 72, 1000, -1])
def test_a_truncated_file_is_removed(cache: DiskCache, directory: Path, size: int) -> None:
    _store(cache, "k")
    path = directory / "k.cwasm"
    path.write_bytes(path.read_bytes()[:size])
    assert _load(cache, "k") is None
    assert not path.exists()


def test_a_link_in_the_place_of_a_file_is_not_followed(cache: DiskCache, directory: Path, tmp_path: Path) -> None:
    _store(cache, "k")
    outside = tmp_path / "outside.cwasm"
    (directory / "k.cwasm").rename(outside)
    (directory / "k.cwasm").symlink_to(outside)
    assert _load(cache, "k") is None


def test_a_pipe_in_the_place_of_a_file_does_not_hang(cache: DiskCache, directory: Path) -> None:
    cache.info()
    os.mkfifo(directory / "k.cwasm")
    assert _load(cache, "k") is None


def test_a_file_that_others_may_write_is_refused(cache: DiskCache, directory: Path) -> None:
    _store(cache, "k")
    (directory / "k.cwasm").chmod(0o666)
    assert _load(cache, "k") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_or_directory_of_another_user_is_refused(cache: DiskCache, directory: Path) -> None:
    _store(cache, "k")
    os.chown(directory / "k.cwasm", 12345, 12345)
    assert _load(cache, "k") is None
    os.chown(directory, 12345, 12345)
    other = DiskCache(str(directory), _capacity())
    assert not _store(other, "k")
    assert "belongs to user 12345" in other.info().reason


def _make_link(directory: Path) -> None:
    real = directory.parent / "real"
    real.mkdir(mode=0o700)
    directory.symlink_to(real)


def _make_world_writable(directory: Path) -> None:
    directory.mkdir()
    directory.chmod(0o777)


def _make_group_readable(directory: Path) -> None:
    directory.mkdir()
    directory.chmod(0o750)


def _make_file(directory: Path) -> None:
    directory.write_text("")


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        pytest.param(_make_link, "symbolic link", id="link"),
        pytest.param(_make_world_writable, "chmod 700", id="world-writable"),
        pytest.param(_make_group_readable, "chmod 700", id="group-readable"),
        pytest.param(_make_file, "Not a directory", id="a file"),
    ],
)
def test_an_unsafe_directory_turns_the_cache_off_with_one_warning(
    cache: DiskCache,
    directory: Path,
    prepare,
    words: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    prepare(directory)
    with caplog.at_level(logging.WARNING, "agentvm"):
        for _ in range(3):
            assert not _store(cache, "k")
            assert _load(cache, "k") is None
        assert cache.clear() == 0
    assert len(caplog.records) == 1
    assert words in caplog.text
    assert words in cache.info().reason


def test_a_cache_that_is_off_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    cache = DiskCache(None, _capacity())
    with caplog.at_level(logging.DEBUG, "agentvm"):
        assert not _store(cache, "k")
        assert _load(cache, "k") is None
    assert not caplog.records
    assert cache.info().directory is None


def test_the_cap_on_bytes_removes_the_least_recently_used(directory: Path) -> None:
    one = len(CODE) + 200
    cache = DiskCache(str(directory), _capacity(max_cache_bytes=3 * one))
    for number, key in enumerate("abc"):
        assert _store(cache, key)
        os.utime(directory / f"{key}.cwasm", ns=(number, number))
    assert _load(cache, "a") is not None  # now b is the oldest
    assert _store(cache, "d")
    assert {path.stem for path in directory.iterdir()} == {"a", "c", "d"}
    assert cache.info().size_bytes <= 3 * one
    cache.close()


def test_the_cap_on_files_removes_the_least_recently_used(directory: Path) -> None:
    capacity = _capacity(max_cache_files=2)
    cache = DiskCache(str(directory), capacity)
    for number, key in enumerate("abc"):
        assert _store(cache, key)
        os.utime(directory / f"{key}.cwasm", ns=(number, number))
    assert {path.stem for path in directory.iterdir()} == {"b", "c"}
    use = capacity.usage()["max_cache_files"]
    assert (use.used, use.peak, use.refused) == (2, 2, 1)
    assert cache.info().max_entries == 2
    cache.close()


def test_usage_follows_what_other_processes_do_to_the_directory(directory: Path) -> None:
    capacity = _capacity()
    cache = DiskCache(str(directory), capacity)
    for key in "abc":
        assert _store(cache, key)
    usage = capacity.usage()
    assert usage["max_cache_files"].used == 3
    assert usage["max_cache_bytes"].used == sum(path.stat().st_size for path in directory.iterdir())
    (directory / "a.cwasm").unlink()
    cache.info()
    assert capacity.usage()["max_cache_files"].used == 2
    cache.clear()
    usage = capacity.usage()
    assert (usage["max_cache_files"].used, usage["max_cache_bytes"].used) == (0, 0)
    assert usage["max_cache_files"].peak == 3
    cache.close()


def test_a_module_above_the_cap_is_not_cached_and_evicts_nothing(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = DiskCache(str(directory), _capacity(max_cache_bytes=len(CODE) + 500))
    assert _store(cache, "small")
    with caplog.at_level(logging.WARNING, "agentvm"):
        assert not _store(cache, "big", code=CODE * 2)
    assert "max_cache_bytes" in caplog.text
    assert _load(cache, "small") is not None
    cache.close()


def test_pruning_and_clearing_say_what_they_freed(cache: DiskCache, directory: Path) -> None:
    for number, key in enumerate("abc"):
        _store(cache, key)
        os.utime(directory / f"{key}.cwasm", ns=(number, number))
    total = cache.info().size_bytes
    assert cache.info().entries == 3
    assert cache.prune(total) == 0
    freed = cache.prune(total - 1)
    assert freed == total // 3
    assert not (directory / "a.cwasm").exists()
    assert cache.clear() == total - freed
    assert (cache.info().entries, cache.info().size_bytes) == (0, 0)


def test_leftovers_of_dead_writers_go_and_those_of_living_ones_stay(cache: DiskCache, directory: Path) -> None:
    _store(cache, "k")
    old, young, foreign = (directory / name for name in ("x.1.tmp", "x.2.tmp", "notes.txt"))
    for path in (old, young, foreign):
        path.write_bytes(b"x")
    os.utime(old, ns=(0, 0))
    cache.clear()
    assert {path.name for path in directory.iterdir()} == {"x.2.tmp", "notes.txt"}


def test_a_removed_directory_is_made_again(cache: DiskCache, directory: Path) -> None:
    _store(cache, "k")
    (directory / "k.cwasm").unlink()
    directory.rmdir()
    assert _store(cache, "k")
    assert _load(cache, "k") is not None


def test_a_full_disk_is_one_warning_and_leaves_nothing(
    cache: DiskCache, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    script = (
        "import os, resource, sys, logging\n"
        "from agentvm.engine.capacity import host_capacity\n"
        "from agentvm.engine.disk_cache import DiskCache\n"
        "logging.basicConfig()\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"  # writing past it fails like a full disk
        "cache = DiskCache(sys.argv[1], host_capacity())\n"
        "source = os.memfd_create('code')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "os.write(source, b'x' * 5000)\n"
        "assert cache.store('k', source, b'', 0, b'x' * 5000) == -1\n"
        "assert cache.store('k', source, b'', 0, b'x' * 5000) == -1\n"
    )
    ran = subprocess.run(  # noqa: PLW1510
        [sys.executable, "-c", script, str(directory)],
        env={"PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.count("could not be written") == 1
    assert list(directory.iterdir()) == []


def test_racing_processes_leave_one_good_entry(cache: DiskCache, directory: Path) -> None:
    script = (
        "import os, sys\n"
        "from agentvm.engine.capacity import host_capacity\n"
        "from agentvm.engine.disk_cache import DiskCache\n"
        "cache = DiskCache(sys.argv[1], host_capacity())\n"
        "source = os.memfd_create('code')\n"
        "os.write(source, bytes(range(256)) * 40)\n"
        "for _ in range(200):\n"
        "    os.close(cache.store('k', source, b'{}', 4096, b'data'))\n"
        "    stored = cache.load('k')\n"
        "    assert stored is not None and stored.contents == b'data'\n"
        "    os.close(stored.fd)\n"
    )
    racers = [
        subprocess.Popen([sys.executable, "-c", script, str(directory)], env={"PYTHONPATH": ROOT}) for _ in range(2)
    ]
    assert [racer.wait(60) for racer in racers] == [0, 0]
    assert [path.name for path in directory.iterdir()] == ["k.cwasm"]
    assert _load(cache, "k") is not None


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({"AGENTVM_CACHE_DIR": "/x/y", "XDG_CACHE_HOME": "/c"}, "/x/y"),
        ({"AGENTVM_CACHE_DIR": "off"}, None),
        ({"AGENTVM_CACHE_DIR": "", "XDG_CACHE_HOME": "/c"}, "/c/agentvm"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/h"}, "/h/.cache/agentvm"),
        ({"HOME": "/h"}, "/h/.cache/agentvm"),
    ],
    ids=["own variable", "off", "XDG", "relative XDG", "home"],
)
def test_the_directory_follows_the_environment(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], wanted: str | None
) -> None:
    for name in ("AGENTVM_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert default_directory() == wanted


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, (5 << 20) + 7])
def test_a_file_has_the_digest_of_its_bytes(size: int) -> None:
    data = bytes(size)
    fd = os.memfd_create("data")
    os.truncate(fd, size)
    assert digest_file(fd, size) == digest(data)
    if size:
        os.pwrite(fd, b"x", size - 1)
        assert digest_file(fd, size) != digest(data)
    os.close(fd)


def test_a_file_that_shrank_has_another_digest() -> None:
    fd = os.memfd_create("data")
    os.truncate(fd, 100)
    assert digest_file(fd, 200) != digest(bytes(200))
    os.close(fd)
