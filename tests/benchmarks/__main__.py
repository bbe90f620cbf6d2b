"""Run every benchmark and print one line each; exit 1 if a bar is missed."""

from __future__ import annotations

import sys

from tests.benchmarks.placement_front import placement_front
from tests.benchmarks.predict_start import predict_start

BENCHMARKS = (predict_start, placement_front)

if __name__ == "__main__":
    results = [benchmark() for benchmark in BENCHMARKS]
    for result in results:
        print(result)
    sys.exit(not all(result.met for result in results))
