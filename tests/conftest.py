"""Settings that all tests share."""

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# How fast examples are drawn says something about the machine, which may be busy, and nothing about the code. In
# CI hypothesis loads a profile of its own that is as patient and draws the same examples every time.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
if "CI" not in os.environ:
    settings.load_profile("patient")

# What a script starts in the background ignores Ctrl-C, and so would all commands that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How wide tables are in a pipe is the tests' own to say.
os.environ.pop("COLUMNS", None)

# Minutes each, the longest first. Files go to processes whole, and one that came last would be waited for alone.
_LONG_FILES = (
    "test_sweep.py", "test_reference_gate.py", "test_fitting.py", "test_kills.py", "test_any_network.py",
    "test_remote_sweep.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, the others in the order in which they were found."""
    items.sort(
        key=lambda item: _LONG_FILES.index(item.path.name) if item.path.name in _LONG_FILES else len(_LONG_FILES)
    )


@pytest.fixture(autouse=True)
def signals_are_left_as_they_were() -> Iterator[None]:
    """A handler that a command leaves behind would hold for all tests after it in the same process."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    assert [signal.getsignal(number) for number in numbers] == before
