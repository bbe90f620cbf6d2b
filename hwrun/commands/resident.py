"""`hwrun resident`: what `hwrun up`, `status` and `down` run on each host; not typed by hand."""

from __future__ import annotations

import argparse
import sys

import msgspec

from hwrun.remote.resident import answer, read_request


def configure(parser: argparse.ArgumentParser) -> None:
    """It has no options: nothing of a request may be seen by other users of the host."""
    parser.epilog = "Reads one request in JSON from standard input, and writes one line of JSON."


def run(arguments: argparse.Namespace) -> int:
    """Carry out the request on standard input."""
    state = answer(read_request(sys.stdin.buffer.read()))
    print(msgspec.json.encode(state).decode(), flush=True)
    return 0
