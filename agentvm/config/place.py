"""Where a configuration is looked for, and whether there is one: asked at each start, so it imports next to nothing."""

import os
from collections.abc import Mapping

__all__ = ["FILE_NAME", "LIMIT_PREFIX", "find_file", "is_configured"]

#: What the file is called that is looked for in the working directory.
FILE_NAME = "agentvm.toml"
_FILE_VARIABLE = "AGENTVM_CONFIG"
#: How variables of the environment begin that set a limit.
LIMIT_PREFIX = "AGENTVM_LIMIT_"


def find_file(environment: Mapping[str, str]) -> tuple[str, bool] | None:
    """Return the file that AGENTVM_CONFIG names, or the one in the working directory, and whether it was named."""
    named = environment.get(_FILE_VARIABLE)
    if named:
        return named, True
    return (FILE_NAME, False) if os.path.exists(FILE_NAME) else None


def is_configured(environment: Mapping[str, str], *, search: bool = True) -> bool:
    """Whether a file, if it is looked for, or the environment says anything."""
    return any(name.startswith(LIMIT_PREFIX) for name in environment) or (search and find_file(environment) is not None)
