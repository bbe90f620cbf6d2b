"""`hwrun status`: how the hosts and workers of a testbed are."""

from __future__ import annotations

import argparse

from hwrun.commands.testbed_options import add_testbed_option, show_reports
from hwrun.remote.fleet import ask_workers
from hwrun.remote.lab_file import read_lab


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `hwrun status`."""
    add_testbed_option(parser)
    parser.add_argument("--json", action="store_true", help="print one object instead of a line a host")


def run(arguments: argparse.Namespace) -> int:
    """Ask every host at once, and show what each answered; 1 where one is not as it should be."""
    return show_reports(ask_workers(read_lab(arguments.testbed)), as_json=arguments.json)
