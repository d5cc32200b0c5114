"""Programs that lie in the files of a VM."""

from dataclasses import dataclass

__all__ = ["GuestFile"]


@dataclass(frozen=True, slots=True)
class GuestFile:
    """A program by its absolute path inside the VM: `vm.run(GuestFile("/bin/tool.wasm"))`.

    A guest may have written it, so it has the caps of such modules: max_guest_module_bytes, max_guest_compile_seconds.
    """

    path: str
