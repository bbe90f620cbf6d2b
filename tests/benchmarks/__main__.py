"""Run every benchmark and print one line each; exit 1 if a bar is missed."""

from __future__ import annotations

import sys

from tests.benchmarks.headline import headline
from tests.benchmarks.link_sweep import break_even_rates, calibrated_break_even_rates, cold_sweep, warm_sweep
from tests.benchmarks.monte_carlo import monte_carlo
from tests.benchmarks.placement_front import placement_front
from tests.benchmarks.predict_start import predict_start
from tests.benchmarks.stage_memory import stage_memory
from tests.benchmarks.steady_stage import allocator_gain, sampler_share, stage_over_plain
from tests.benchmarks.tls_cost import tls_cost
from tests.benchmarks.transports import transports
from tests.benchmarks.two_stages import two_stages
from tests.benchmarks.uncertainty import uncertainty

BENCHMARKS = (
    predict_start, placement_front, warm_sweep, cold_sweep, break_even_rates, calibrated_break_even_rates, monte_carlo,
    uncertainty, stage_memory, transports, two_stages, headline, allocator_gain, stage_over_plain, sampler_share,
    tls_cost,
)  # fmt: skip

if __name__ == "__main__":
    results = []
    for benchmark in BENCHMARKS:
        results.append(benchmark())
        print(results[-1], flush=True)
    sys.exit(not all(result.met for result in results))
