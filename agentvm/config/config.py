"""`Config`: what a file and the environment ask for, and flags, each value with what set it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from agentvm.config.file import FileSettings, LogSettings, read_file
from agentvm.config.place import LIMIT_PREFIX, find_file
from agentvm.host.directory import HostDirectory
from agentvm.limits.caps import Caps
from agentvm.limits.catalogue import Limits
from agentvm.limits.host_catalogue import HostLimits
from agentvm.limits.layers import Accepts, Layer, merge

__all__ = ["Config"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """A configuration, checked: what a VM can be opened with.

    ```python
    config = Config.find()
    configure_host(config.host)
    with AgentVM(config.limits) as vm:
        for path, directory in config.mounts.items():
            vm.mount(path, directory)
    ```
    """

    limits: Limits
    #: The limits of the host process.
    host: HostLimits
    #: Directories of the host, by where they are seen in the VM.
    mounts: Mapping[str, HostDirectory]
    #: What the file says of the log; AGENTVM_LOG and AGENTVM_LOG_FORMAT win over it.
    log: LogSettings
    #: "auto", "required" or "off": whether the process goes into a cgroup of its own.
    cgroup: str
    #: The file that was read, None if there was none.
    path: str | None
    #: Each limit and setting that was set, and what set it.
    sources: Layer

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, environment: Mapping[str, str] | None = None) -> "Config":
        """Read a file, and `environment` over it (default: that of the process; `{}` for none).

        Raises `InvalidConfig` for a file that cannot be read or parsed, and for a section or key that it cannot have;
        `InvalidLimit` for a limit that does not exist, does not take its value, or contradicts another.
        """
        return cls.resolve(os.fspath(path), environment)

    @classmethod
    def find(cls, *, environment: Mapping[str, str] | None = None) -> "Config":
        """Read the file that AGENTVM_CONFIG names, else `agentvm.toml` in the working directory, else none.

        Errors and `environment` are those of `load`. A file that was only found may not mount what lies outside its
        directory.
        """
        return cls.resolve(None, environment)

    @classmethod
    def resolve(
        cls,
        path: str | None,
        environment: Mapping[str, str] | None = None,
        flags: Layer | None = None,
        *,
        search: bool = True,
    ) -> "Config":
        """Put a file, the environment and flags together; without a path, the file is looked for if `search`."""
        environment = os.environ if environment is None else environment
        found = (path, True) if path is not None else find_file(environment) if search else None
        settings = FileSettings() if found is None else read_file(found[0], was_named=found[1])
        merged = merge([settings.layer, _environment_layer(environment), flags or Layer()])
        limits = merged.limits()
        Caps(limits)  # refuses caps that contradict each other, before anything runs
        return cls(
            limits=limits,
            host=merged.host_limits(),
            mounts=settings.mounts,
            log=settings.log,
            cgroup=settings.cgroup or "off",
            path=None if found is None else found[0],
            sources=merged,
        )


def _environment_layer(environment: Mapping[str, str]) -> Layer:
    """Return what AGENTVM_LIMIT_<NAME> sets. Raises `InvalidLimit`, also for a variable that names no limit."""
    layer = Layer()
    for variable in environment:
        if variable.startswith(LIMIT_PREFIX):
            layer.set(variable.removeprefix(LIMIT_PREFIX), environment[variable], variable, accepts=Accepts.BOTH)
    return layer
