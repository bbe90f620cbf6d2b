"""What the commands that take a testbed file share: its option, and how a fleet's state is shown."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hwrun.remote.fleet import HostReport, problems_of
from paretosim.command_line import DONE, FAILED
from paretosim.indented_json import indented_json
from paretosim.units import format_duration


def add_testbed_option(parser: argparse.ArgumentParser) -> None:
    """`--testbed`, which is required."""
    parser.add_argument(
        "--testbed", type=Path, required=True, metavar="FILE", help="the hosts, in TOML (docs/testbed.md)"
    )


def show_reports(reports: Sequence[HostReport], *, as_json: bool = False) -> int:
    """One line a host on stdout, its problems on stderr; the exit code."""
    problems = problems_of(reports)
    if as_json:
        sys.stdout.write(indented_json({"schema_version": 1, "hosts": reports}).decode())
    else:
        for report in reports:
            print(f"{report.host}: {_described(report)}")
    for problem in problems:
        print(f"hwrun: {problem}", file=sys.stderr)
    return FAILED if problems else DONE


def _described(report: HostReport) -> str:
    state = report.state
    if state is None:
        return f"not reached{f', but {report.worker}' if report.worker else ''}"
    is_stranger = state.pid is None and report.worker is not None and not state.failed
    parts = [] if is_stranger else [state.what]
    if state.pid is not None:
        parts.append(f"process {state.pid} on {state.hostname}")
    if state.uptime_s is not None:
        parts.append(f"for {format_duration(round(state.uptime_s))}")
    if report.worker is not None:
        parts.append(report.worker)
    parts.append(" ".join(f"{name} {value}" for name, value in state.versions.items()))
    return ", ".join(parts)
