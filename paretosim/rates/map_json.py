"""A map of best splits as a JSON object and CSV rows (docs/formats.md)."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from paretosim.indented_json import indented_json
from paretosim.profiles import identity
from paretosim.rates.break_even import Intervals
from paretosim.rates.rate_map import QUESTIONS, RateMap
from paretosim.show.result_json import calibration_object, terms_identity, versions

SCHEMA_VERSION = 1
# Of the picture's grid, every so manieth rate and delay: enough to redraw it, without hundreds of kilobytes.
_EVERY = 4


def as_json(found: RateMap) -> bytes:
    """The map as one JSON object, indented, with a final newline."""
    return indented_json(as_object(found))


def as_object(found: RateMap) -> dict[str, Any]:
    """The map as plain dictionaries, lists and numbers. What is `sampled` says so; the rest is exact."""
    setting, link = found.setting, found.setting.link
    regions = found.regions
    errors = [timing.error for timing in setting.timings]
    return {
        "schema_version": SCHEMA_VERSION,
        "model": setting.model.name,
        "mode": setting.mode.name,
        "batch": setting.batch,
        "backend": setting.backend,
        "calibration": calibration_object(setting),
        **({"without": list(setting.without)} if setting.without else {}),
        "window": setting.mode.window,
        "burst_batches": setting.mode.batches,
        "source": setting.source,
        "sink": setting.sink,
        "tcp_state": setting.tcp_state,
        "splits": list(found.splits),
        "unfit_splits": list(found.unfit),
        "rates_bps": [found.rates.low, found.rates.high],
        "return_rate_bps": found.return_rate_bps,
        "one_way_delay_s": link.one_way_delay_s,
        "return_delay_s": link.return_delay_s,
        "header_bytes": link.header_bytes,
        "mss_bytes": link.mss_bytes,
        "wmax_bytes": link.wmax_bytes,
        "devices": [device.name for device in setting.devices],
        "timing_kinds": [timing.at_batch(setting.batch)[1] for timing in setting.timings],
        "profile_error": max((e.relative for e in errors if e is not None), default=None) if all(errors) else None,
        "profile_errors": [msgspec.to_builtins(error) for error in errors],
        "overhead_bound": found.overhead_bound,
        "control_delay_s": setting.control_delay_s,
        "versions": versions(),
        "identity": _identity(found),
        "latency": _interval_objects(found.exact.latency),
        "throughput": _interval_objects(found.exact.throughput),
        "fronts": _front_objects(found),
        "distinct_fronts": found.exact.distinct_fronts,
        "knee": {"sampled": True, "rates": found.knee_samples, "intervals": _interval_objects(found.knees)},
        "robust": {
            "latency": msgspec.to_builtins(found.robust_latency),
            "throughput": msgspec.to_builtins(found.robust_throughput),
        },
        "regions": {
            "sampled": True,
            "rates_bps": regions.rates_bps[::_EVERY].tolist(),
            "delays_s": regions.delays_s[::_EVERY].tolist(),
            **{name: regions.of(name)[::_EVERY, ::_EVERY].tolist() for name in QUESTIONS},
            "delay_matters": {name: regions.delay_matters(name) for name in QUESTIONS},
        },
    }


def as_csv(found: RateMap) -> str:
    """One line per interval: which question, whether exact, from, to, and its split or splits."""
    lines = ["best,exact,from_bps,to_bps,splits"]
    for name, exact, intervals in (
        ("latency", "true", _interval_objects(found.exact.latency)),
        ("throughput", "true", _interval_objects(found.exact.throughput)),
        ("knee", "false", _interval_objects(found.knees)),
    ):
        lines += [f"{name},{exact},{i['from_bps']},{i['to_bps']},{i['split']}" for i in intervals]
    lines += [
        f"front,true,{i['from_bps']},{i['to_bps']},{' '.join(map(str, i['splits']))}" for i in _front_objects(found)
    ]
    return "\n".join(lines) + "\n"


def _interval_objects(intervals: Intervals) -> list[dict[str, Any]]:
    edges = intervals.edges_bps.tolist()
    return [
        {"from_bps": low, "to_bps": high, "split": split}
        for low, high, split in zip(edges, edges[1:], intervals.splits.tolist(), strict=False)
    ]


def _front_objects(found: RateMap) -> list[dict[str, Any]]:
    edges = found.exact.fronts.edges_bps.tolist()
    splits = np.array(found.splits)
    return [
        {"from_bps": low, "to_bps": high, "splits": splits[mask].tolist()}
        for low, high, mask in zip(edges, edges[1:], found.exact.fronts.on_front, strict=False)
    ]


def _identity(found: RateMap) -> str:
    """Hash of all inputs: equal maps come from equal inputs."""
    setting = found.setting
    regions = found.regions
    parameters = msgspec.json.encode(
        [
            setting.batch, setting.mode, setting.splits, setting.source, setting.sink, setting.tcp_state,
            setting.speed, setting.control_delay_s, found.rates, found.return_rate_bps,
            float(regions.delays_s[0]), float(regions.delays_s[-1]),
        ]
    )  # fmt: skip
    terms = terms_identity(setting)
    return identity(setting.model, *setting.devices, *setting.timings, setting.link, *terms, parameters.decode())
