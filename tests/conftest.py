"""Settings that all tests share."""

import os
import signal

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
