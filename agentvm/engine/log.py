"""The host's log. Loaded when there is something to say: importing `logging` takes as long as starting a VM."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from logging import Logger

__all__ = ["log"]


def log() -> "Logger":
    """Return the logger of agentvm; the embedding program configures it."""
    import logging

    return logging.getLogger("agentvm")
