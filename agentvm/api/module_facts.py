"""What the imports of a module say about how its process is to be set up."""

from agentvm.engine.module_info import ModuleInfo

__all__ = ["has_host_abi", "uses_files"]

#: A program that imports none of these can neither find nor use a preopened directory.
_FILE_CALLS = ("path_", "fd_prestat_", "fd_readdir")


def uses_files(info: ModuleInfo) -> bool:
    """Whether it imports any call on paths."""
    return any(item.name.startswith(_FILE_CALLS) for item in info.imports)


def has_host_abi(info: ModuleInfo) -> bool:
    """Whether it imports anything but WASI."""
    return any(item.module.startswith("host_") for item in info.imports)
