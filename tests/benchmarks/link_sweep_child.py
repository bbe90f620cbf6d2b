"""A process of its own for `link_sweep`: sweeps and sorts in turn, and the most memory it ever held.

python -m tests.benchmarks.link_sweep_child warm|cold LINKS PAIRS
"""

from __future__ import annotations

import json
import resource
import sys
import time
from typing import Any

import numpy as np

from paretosim.link import shaped
from paretosim.profiles import ProfileStore
from paretosim.rates.link_response import LinkResponse, link_response
from paretosim.rates.link_sweep import CHUNK_LINKS, Sweep, sweep
from paretosim.setting import Setting
from paretosim.transfer_time import TcpState

MODEL, DEVICE = "vgg16", "rpi4b"
PLAIN_SAMPLE = 200


def vgg16(tcp_state: TcpState) -> Setting:
    """The forty splits of vgg16 over two Pis, mode paced."""
    store = ProfileStore()
    device, timing = store.device(DEVICE), store.timing(DEVICE, MODEL)
    return Setting(
        model=store.model(MODEL),
        devices=(device, device),
        timings=(timing, timing),
        link=shaped(store.link("ethernet-1g"), rate_bps=1e9),
        tcp_state=tcp_state,
    )


def random_links(count: int) -> tuple[Any, Any]:
    """Rates from 100 kbit/s to 10 Gbit/s and delays from 10 us to 1 s, evenly on a logarithmic scale."""
    random = np.random.default_rng(1)
    return 10 ** random.uniform(5, 10, count), 10 ** random.uniform(-5, 0, count)


def pair_s(response: LinkResponse, rates: Any, delays: Any, out: Sweep) -> tuple[float, float]:
    """Seconds of a sweep over all links, and of NumPy's argsort of as many rows of random numbers.

    In turn chunk by chunk, so that whatever slows the machine slows both. Sorted is one chunk of random numbers over
    and over; swept are all links, into results that are all held.
    """
    values = np.random.default_rng(2).random((CHUNK_LINKS, len(response.splits)))
    swept_s = sorted_s = 0.0
    for first in range(0, len(rates), CHUNK_LINKS):
        part = slice(first, first + CHUNK_LINKS)
        room = Sweep(out.latency_s[part], out.period_s[part], out.on_front[part])
        start = time.perf_counter()
        sweep(response, rates[part], delays[part], out=room)
        middle = time.perf_counter()
        np.argsort(values[: len(rates[part])], axis=1)
        swept_s += middle - start
        sorted_s += time.perf_counter() - middle
    return swept_s, sorted_s


def plain_s(response: LinkResponse, rates: Any, delays: Any) -> float:
    """Seconds a link of the same in plain Python: loops over links, splits, rounds of slow start and pairs."""
    hop = response.hops[0]
    splits = range(len(response.splits))
    thresholds, round_trips, bits = hop.thresholds_bits.tolist(), hop.round_trips.tolist(), hop.bits.tolist()
    computing, slowest = response.constant_s.tolist(), response.slowest_constant_s.tolist()
    start = time.perf_counter()
    for rate, delay in zip(rates.tolist(), delays.tolist(), strict=True):
        u = max(1 / rate, delay / (8 * response.wmax_bytes))
        row = sum(threshold < delay / u for threshold in thresholds)
        occupied = [round_trips[s][row] * delay + bits[s][row] * u for s in splits]
        latency = [computing[s] + occupied[s] + delay for s in splits]
        period = [max(slowest[s], occupied[s]) for s in splits]
        _ = [
            not any(
                latency[o] <= latency[s]
                and period[o] <= period[s]
                and (latency[o] < latency[s] or period[o] < period[s])
                for o in splits
            )
            for s in splits
        ]
    return (time.perf_counter() - start) / len(rates)


def main(tcp_state: TcpState, links: int, pairs: int) -> None:
    """Print seconds of each sweep and sort in turn, after a sweep that does not count, and the peak."""
    response = link_response(vgg16(tcp_state))
    rates, delays = random_links(links)
    out = sweep(response, rates, delays)
    runs = [pair_s(response, rates, delays, out) for _ in range(pairs)]
    json.dump(
        {
            "pairs": runs,
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,  # Linux counts in KiB
            "plain_s_per_link": plain_s(response, rates[:PLAIN_SAMPLE], delays[:PLAIN_SAMPLE]),
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main("cold" if sys.argv[1] == "cold" else "warm", int(sys.argv[2]), int(sys.argv[3]))
