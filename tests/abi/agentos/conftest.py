"""Boots proxy guests that have the calls of the host ABI besides those of preview1."""

from typing import Any

import pytest

from tests.abi.rig import Boot, Rig


@pytest.fixture
def boot_host(boot: Boot) -> Boot:
    """As `boot`, for proxies with the host ABI: see `Rig.waiting` for calls that wait."""

    def start(**options: Any) -> Rig:
        return boot(module="agentos", **options)

    return start


@pytest.fixture
def host(boot_host: Boot) -> Rig:
    """A proxy of the host ABI with nothing special about it."""
    return boot_host()
