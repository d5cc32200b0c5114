"""What is charged is what the host holds, within a quarter; and the caps hold with flat memory."""

import gc
import tracemalloc

import pytest

from agentvm.errno import KernelError


def measured(build):
    """Run `build` and return how many bytes it left behind."""
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    kept = build()
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del kept
    return after - before


def empty_files(files):
    files.mkdir(b"/d")
    for number in range(3000):
        files.put(b"/d/name-%05d" % number)


def tiny_files(files):
    for number in range(3000):
        files.put(b"/name-%05d" % number, b"x" * 60)


def small_files(files):
    for number in range(1000):
        files.put(b"/name-%05d" % number, b"x" * 5000)


def one_large_file(files):
    files.put(b"/large", b"x" * 20_000_000)


def grown_in_small_steps(files):
    file = files.create(b"/large")
    for _ in range(20_000):
        file.write_nowait([memoryview(b"x" * 64)])
    file.on_last_close()


def cut_files(files):
    for number in range(100):
        file = files.create(b"/%d" % number, b"x" * 65_536)
        file.truncate(33_000)
        file.on_last_close()


def scattered_pages(files):
    file = files.create(b"/sparse")
    for number in range(2000):
        file.pwrite([memoryview(b"x")], number << 16)
    file.on_last_close()


def directories(files):
    for number in range(3000):
        files.mkdir(b"/name-%05d" % number)


def nested_directories(files):
    base = files.root
    for _ in range(3000):
        base.mkdir(b"deeper", 0o755)
        base = base.lookup(b"deeper")


def symlinks(files):
    for number in range(3000):
        files.symlink(b"/name-%05d" % number, b"target/of/the/link")


def hard_links(files):
    files.put(b"/f")
    for number in range(3000):
        files.link(b"/f", b"/name-%05d" % number)


def long_names(files):
    for number in range(1000):
        files.put(b"/" + b"%05d" % number * 50)


BUILDERS = [
    empty_files,
    tiny_files,
    small_files,
    one_large_file,
    grown_in_small_steps,
    cut_files,
    scattered_pages,
    directories,
    nested_directories,
    symlinks,
    hard_links,
    long_names,
]


@pytest.mark.parametrize("build", BUILDERS, ids=lambda build: build.__name__)
def test_charges_are_within_a_quarter_of_what_is_held(make_files, build):
    files = make_files(max_filesystem_bytes="1GiB")
    held = measured(lambda: build(files))
    charged = files.charged()[0]
    assert held <= 1.25 * charged
    assert charged <= 1.25 * held


def test_a_listing_in_pieces_stays_within_the_charge(make_files):
    files = make_files()
    directories = []

    def build():
        empty_files(files)
        directories.append(files.open(b"/d"))
        next(iter(directories[0].entries(500)))

    assert measured(build) <= 1.25 * files.charged()[0]


def test_the_default_number_of_empty_files_fits_and_the_next_one_does_not(files):
    cap = int(files.registry.gauge("max_inodes").cap)
    for number in range(cap):
        files.put(b"/%d" % number)
    held = measured(lambda: [_refused(files, number) for number in range(2000)])
    assert held < 20_000
    assert files.charged()[1] == cap
    files.unlink(b"/0")
    files.put(b"/again")


def _refused(files, number):
    with pytest.raises(KernelError) as refusal:
        files.put(b"/more-%d" % number)
    assert refusal.value.errno.name == "ENOSPC"
    assert refusal.value.limit == "max_inodes"


def _until_refused(step):
    for number in range(1000):
        try:
            step(number)
        except KernelError as error:
            return error
    raise AssertionError("nothing was refused")


MAKERS = {
    "create": lambda files, name: files.put(name),
    "mkdir": lambda files, name: files.mkdir(name),
    "symlink": lambda files, name: files.symlink(name, b"x" * 100),
    "link": lambda files, name: files.link(b"/base", name),
    "write": lambda files, name: files.put(name, b"x" * 5000),
}


# A further name of a file needs no inode.
@pytest.mark.parametrize(
    ("operation", "limit"),
    [
        (operation, limit)
        for operation in MAKERS
        for limit in ("max_filesystem_bytes", "max_temp_storage_bytes", "max_inodes")
        if (operation, limit) != ("link", "max_inodes")
    ],
)
def test_every_way_to_use_space_ends_with_enospc(make_files, operation, limit):
    files = make_files(**{limit: 50 if limit == "max_inodes" else 40_000})
    where = b"/tmp/" if limit == "max_temp_storage_bytes" else b"/"
    if operation == "link":
        files.free["root"] = files.root = files.vfs.temporary.root if where == b"/tmp/" else files.root
        files.put(b"/base")
        where = b"/"
    refusal = _until_refused(lambda number: MAKERS[operation](files, where + b"%d" % number))
    assert (refusal.errno.name, refusal.limit) == ("ENOSPC", limit)
    files.charged()


def test_what_is_under_tmp_counts_against_both_caps(make_files):
    files = make_files(max_temp_storage_bytes=100_000)
    files.put(b"/tmp/f", b"x" * 50_000)
    assert files.registry.gauge("max_temp_storage_bytes").used > 50_000
    assert files.charged()[0] > 50_000
    refusal = _until_refused(lambda number: files.put(b"/tmp/%d" % number, b"x" * 20_000))
    assert refusal.errno.name == "ENOSPC"
    files.put(b"/elsewhere", b"x" * 1_000_000)
    files.charged()


def test_a_rename_at_the_cap_needs_space_only_for_a_longer_name(make_files):
    files = make_files()
    files.put(b"/name")
    files.registry.gauge("max_filesystem_bytes").cap = files.charged()[0]
    files.rename(b"/name", b"/eman")
    with pytest.raises(KernelError, match="ENOSPC"):
        files.rename(b"/eman", b"/longer")
    assert b"eman" in files.names(b"/")
    files.charged()


def test_a_filesystem_of_its_own_costs_little(make_files):
    files = make_files()
    held = measured(lambda: [type(files.vfs)(files.registry, files.clock) for _ in range(20)])
    assert held / 20 < 8 * 1024


def test_closing_gives_everything_back(files):
    for build in (empty_files, small_files, nested_directories):
        build(files)
    files.create(b"/open-and-removed", b"x" * 1000)
    files.unlink(b"/open-and-removed")
    files.put(b"/tmp/f", b"x" * 1000)
    files.vfs.close()
    files.vfs.close()
    assert files.registry.gauge("max_filesystem_bytes").used == 0
    assert files.registry.gauge("max_inodes").used == 0
    assert files.registry.gauge("max_temp_storage_bytes").used == 0
