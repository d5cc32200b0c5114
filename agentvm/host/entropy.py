"""Where a VM's randomness comes from: the host's generator, or a seed when runs must repeat."""

import os
from collections.abc import Callable

__all__ = ["seeded_random", "system_random"]


def system_random(size: int) -> bytes:
    """Return `size` bytes of the host's cryptographic generator, getrandom(2)."""
    return os.urandom(size)


def seeded_random(seed: int) -> Callable[[int], bytes]:
    """Return a source that gives the same bytes for the same seed and the same sequence of calls. Not for secrets."""
    import random  # few VMs need it

    return random.Random(seed).randbytes  # noqa: S311 - repeatable on purpose
