"""Says where tests keep what is dear to get: downloads, built guests, compiled modules. Never in the repository."""

import os
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder(*parts: str) -> Path:
    """Return a folder below AGENTVM_TEST_CACHE, or else below the user's cache, made if it is not there."""
    chosen = os.environ.get("AGENTVM_TEST_CACHE")
    user = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(chosen) if chosen else Path(user) / "agentvm-tests"
    folder = folder.joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
