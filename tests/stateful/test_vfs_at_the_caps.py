"""Any operations under small caps: what is refused changes nothing, what is charged is what a recount finds."""

from hypothesis import given, settings
from hypothesis import strategies as st

from agentvm.clock import ManualClock
from agentvm.errno import KernelError
from agentvm.kernel.stat import Filetype
from agentvm.kernel.vfs.vfs import Vfs
from agentvm.limits.catalogue import Limits
from agentvm.limits.registry import Registry

names = st.sampled_from([b"a", b"b", b"c", b"tmp", b"a-much-longer-name"])
paths = st.builds(b"/".join, st.lists(names, min_size=1, max_size=2))
steps = st.one_of(
    st.tuples(st.just("mkdir"), paths),
    st.tuples(st.just("rmdir"), paths),
    st.tuples(st.just("unlink"), paths),
    st.tuples(st.just("symlink"), paths, st.binary(min_size=1, max_size=300)),
    st.tuples(st.just("link"), paths, paths),
    st.tuples(st.just("rename"), paths, paths),
    st.tuples(st.just("create"), paths),
    st.tuples(st.just("write"), st.integers(0, 9), st.integers(0, 9000), st.integers(1, 9000)),
    st.tuples(st.just("truncate"), st.integers(0, 9), st.integers(0, 12_000)),
    st.tuples(st.just("allocate"), st.integers(0, 9), st.integers(0, 9000), st.integers(1, 9000)),
    st.tuples(st.just("close"), st.integers(0, 9)),
)
caps = st.fixed_dictionaries(
    {
        "max_filesystem_bytes": st.integers(0, 30_000),
        "max_temp_storage_bytes": st.integers(0, 30_000),
        "max_inodes": st.integers(0, 8),
        "max_file_bytes": st.integers(0, 12_000),
    }
    # A part that may hold more than the whole is refused when the VM is opened.
).map(
    lambda given: (
        given | {"max_temp_storage_bytes": min(given["max_temp_storage_bytes"], given["max_filesystem_bytes"])}
    )
)
REFUSALS = {"ENOSPC", "EFBIG"}


class Machine:
    """A filesystem under small caps, and the files that are open in it."""

    def __init__(self, limits):
        self.registry = Registry(Limits(**limits))
        self.vfs = Vfs(self.registry, ManualClock(step_ns=1))
        self.files = []

    def apply(self, what, *args):
        """Do one step; return the errno's name, or None."""
        before = self.tree()
        try:
            self.do(what, *args)
        except KernelError as error:
            if what != "create":  # O_CREAT on what exists opens it, and may then still fail
                assert self.tree() == before
            return error.errno.name
        return None

    def do(self, what, *args):
        root, free = self.vfs.root, {"root": self.vfs.root, "confined": False}
        if what == "create":
            self.files.append(self.vfs.open_at(root, args[0], **free, create=True, write=True))
        elif what in ("mkdir", "rmdir", "unlink"):
            getattr(self.vfs, f"{what}_at")(root, args[0], **free)
        elif what == "symlink":
            self.vfs.symlink_at(root, args[0], **free, target=args[1].replace(b"\0", b"0"))
        elif what in ("link", "rename"):
            getattr(self.vfs, f"{what}_at")(root, args[0], root, args[1], **free)
        elif self.files:
            file = self.files[args[0] % len(self.files)]
            if what == "write":
                data = bytes([args[2] % 255 + 1]) * args[2]
                done = file.pwrite([memoryview(data)], args[1])
                buffer = bytearray(done)
                assert 0 < done == file.pread([memoryview(buffer)], args[1])
                assert buffer == data[:done]
            elif what == "close":
                self.files.remove(file)
                file.on_last_close()
            else:
                getattr(file, what)(*args[1:])

    def tree(self):
        found, pending = {}, [(b"", self.vfs.memory.root), (b"/T", self.vfs.temporary.root)]
        while pending:
            path, directory = pending.pop()
            for entry in directory.entries(2):
                node = directory.lookup(entry.name)
                where = path + b"/" + entry.name
                found[where] = (node.key, node.stat().size, node.stat().nlink)
                if entry.filetype is Filetype.DIRECTORY:
                    pending.append((where, node))
        return found

    def check(self):
        memory, temporary = self.vfs.memory.recount(), self.vfs.temporary.recount()
        space, inodes = self.registry.gauge("max_filesystem_bytes"), self.registry.gauge("max_inodes")
        extra = self.registry.gauge("max_temp_storage_bytes")
        assert space.used == memory.charged_bytes + temporary.charged_bytes <= space.cap
        assert inodes.used == memory.inodes + temporary.inodes <= inodes.cap
        assert extra.used == temporary.charged_bytes <= extra.cap


@settings(max_examples=300, deadline=None)
@given(caps, st.lists(steps, max_size=40))
def test_refusals_change_nothing_and_charges_stay_exact(limits, plan):
    machine = Machine(limits)
    for step in plan:
        machine.apply(*step)
        machine.check()
    for file in machine.files:
        file.on_last_close()
    machine.check()
    machine.vfs.close()
    assert machine.registry.gauge("max_filesystem_bytes").used == 0


@settings(max_examples=100, deadline=None)
@given(caps, st.lists(steps, max_size=25))
def test_a_refusal_for_space_is_one_that_larger_caps_do_not_give(limits, plan):
    small, large = Machine(limits), Machine({})
    for step in plan:
        refused, allowed = small.apply(*step), large.apply(*step)
        if refused != allowed:
            assert refused in REFUSALS
            break
        if small.tree() != large.tree():  # a write that was cut short
            assert step[0] == "write"
            break
