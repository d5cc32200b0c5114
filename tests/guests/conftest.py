"""A VM for each test of a real program, and a summary of which programs ran."""

from collections.abc import Iterator

import pytest

from agentvm import AgentVM
from tests.support.real_guests import report_lines


@pytest.fixture
def vm() -> Iterator[AgentVM]:
    with AgentVM() as machine:
        yield machine


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in report_lines():
        terminalreporter.write_line(line)
