"""The tests depend on nothing that whoever runs them has configured."""

import os
from pathlib import Path

import pytest

from agentvm.config.place import FILE_NAME


def pytest_sessionstart() -> None:
    """Forget limits and a configuration that come from outside, for this process and those that tests start."""
    for name in [name for name in os.environ if name == "AGENTVM_CONFIG" or name.startswith("AGENTVM_LIMIT_")]:
        del os.environ[name]
    if Path(FILE_NAME).exists():
        pytest.exit(f"./{FILE_NAME} would configure what the tests run: move it away", returncode=2)
