"""Listing a directory in pieces while it changes: each name that stays is seen exactly once."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentvm.kernel.stat import Filetype

names = st.integers(0, 79)
changes = st.one_of(
    st.tuples(st.just("add"), names),
    st.tuples(st.just("remove"), names),
    st.tuples(st.just("rename"), names, names),
    st.tuples(st.just("list"), st.integers(1, 12)),
    st.tuples(st.just("restart")),
)


def name_of(number):
    return b"name%d" % number


class Listing:
    """One listing in pieces, and what it has to show."""

    def __init__(self, directory, present):
        self.directory = directory
        self.cookie = 0
        self.seen = []
        self.stayed = set(present)
        self.touched = set()
        self.ended = False

    def piece(self, count):
        entries = []
        for entry in self.directory.entries(self.cookie):
            entries.append(entry)
            if len(entries) == count:
                break
        assert [e.cookie for e in entries] == sorted({e.cookie for e in entries})
        if entries:
            self.cookie = entries[-1].cookie
        self.ended = len(entries) < count
        self.seen += [entry.name for entry in entries]

    def check(self):
        while not self.ended:
            self.piece(50)
        assert self.seen[:2] == [b".", b".."]
        for name in self.stayed:
            assert self.seen.count(name) == 1
        known = self.stayed | self.touched
        assert set(self.seen[2:]) <= known


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(names), st.lists(changes, max_size=60))
def test_each_name_that_stays_is_listed_exactly_once(make_files, start, plan):
    files = make_files()
    files.mkdir(b"/d")
    present = {name_of(number) for number in start}
    for name in sorted(present):
        files.put(b"/d/" + name)
    directory, other = files.open(b"/d"), files.open(b"/d")
    listing = Listing(directory, present)
    for what, *args in plan:
        if what == "list":
            listing.piece(args[0])
        elif what == "restart":
            listing.check()
            list(other.entries(5))
            listing = Listing(directory, present)
        else:
            first, last = name_of(args[0]), name_of(args[-1])
            listing.stayed -= {first, last}
            listing.touched |= {first, last}
            if what == "add" and first not in present:
                files.put(b"/d/" + first)
                present.add(first)
            elif what == "remove" and first in present:
                files.unlink(b"/d/" + first)
                present.discard(first)
            elif what == "rename" and first in present:
                files.rename(b"/d/" + first, b"/d/" + last)
                present = present - {first} | {last}
    listing.check()
    assert {entry.name for entry in directory.entries(2)} == present
    files.charged()


def test_a_listing_of_a_directory_that_is_emptied_on_the_way_ends(files):
    files.mkdir(b"/d")
    for number in range(500):
        files.put(b"/d/%d" % number)
    directory = files.open(b"/d")
    cookie, seen = 0, 0
    while piece := [entry for entry, _ in zip(directory.entries(cookie), range(7), strict=False)]:
        for entry in piece:
            cookie = entry.cookie
            if entry.filetype is Filetype.REGULAR_FILE:
                files.unlink(b"/d/" + entry.name)
                seen += 1
    assert seen == 500
    files.rmdir(b"/d")


def test_entries_show_inodes_and_types(files):
    files.mkdir(b"/d")
    files.mkdir(b"/d/sub")
    files.put(b"/d/file")
    files.symlink(b"/d/link", b"file")
    entries = {entry.name: entry for entry in files.open(b"/d/sub").entries(0)}
    above = {entry.name: entry for entry in files.open(b"/d").entries(0)}
    assert entries[b".."].ino == above[b"."].ino
    assert entries[b"."].ino == above[b"sub"].ino
    assert [above[name].filetype for name in (b"sub", b"file", b"link")] == [
        Filetype.DIRECTORY,
        Filetype.REGULAR_FILE,
        Filetype.SYMBOLIC_LINK,
    ]


def test_resuming_does_not_look_at_what_was_listed(files):
    """Work per piece, counted in dict lookups by names compared, must not grow with the position."""
    files.mkdir(b"/d")
    for number in range(5000):
        files.put(b"/d/%d" % number)
    directory = files.open(b"/d")
    list(directory.entries(2))
    late = next(iter(directory.entries(4990)))
    assert late.cookie == 4991

    import sys

    def events(cookie):
        count = 0

        def trace(frame, event, argument):
            nonlocal count
            count += 1
            return trace

        sys.settrace(trace)
        try:
            next(iter(directory.entries(cookie)))
        finally:
            sys.settrace(None)
        return count

    assert events(4990) <= 2 * events(50)
