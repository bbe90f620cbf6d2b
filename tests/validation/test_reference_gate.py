"""The gate on the reference data set: it lets the model through as it is, and none that lacks a term which data show.

What was measured once and kept is the same on every machine, so bars lie close to what is found (`.ci`). For each term
of docs/model.md there is a break here that the gate has to catch, or the reason why no cell can show it, with the test
that holds it then.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import pytest

from hwrun.records import Run, read_run
from paretosim.calibration import TERMS, Backend, Calibration
from paretosim.profiles import ProfileStore
from tests.validation import broken_terms as broken
from validation.accuracy import parted
from validation.bars import Bar, judge, read_bars
from validation.cli import main
from validation.commands.calibrate import calibrate
from validation.fitting.fit import DEFAULT_CONFIDENCE
from validation.groups import report_on
from validation.join import join

ROOT = Path(__file__).resolve().parents[2]
BARS = ROOT / ".ci" / "bars-reference.toml"
MODEL, LINKS = "alexnet", ("unshaped", "20mbit,40ms")
STORE = ProfileStore([])


def _folders() -> list[Path]:
    return sorted((ROOT / "validation" / "reference").glob("emulated-*"))


def test_the_model_as_it_is_passes(capsys: pytest.CaptureFixture[str]) -> None:
    links = [option for link in LINKS for option in ("--link", link)]
    assert main(["accuracy", *map(str, _folders()), "--model", MODEL, *links, "--bars", str(BARS)]) == 0, (
        capsys.readouterr().err
    )


@dataclass(frozen=True)
class Broken:
    """A break, with the backend whose cells show it.

    `refitted`: the calibration is fitted by the broken model as well, so that no other parameter may make up for the
    term. Else it is the one of the whole model, as a user has it in a file.
    """

    backend: Backend
    apply: broken.Break
    refitted: bool = False


# By the term's name in the model: first those that can be switched off (paretosim/calibration.py), then the others.
SHOWN: dict[str, tuple[Broken, ...]] = {
    "overhead": (
        Broken("tcp", broken.without("overhead"), refitted=True),
        Broken("rpc", broken.without("overhead"), refitted=True),
        Broken("tcp", broken.stages_plus(overhead_s=1)),
    ),
    # What a message costs before it leaves and after it has come are told apart where one of them binds alone: without
    # either, a fit has the other for both. Over tcp both are nothing: waking the receiver is copying's.
    "sending": (
        Broken("rpc", broken.without("sending", "receiving"), refitted=True),
        Broken("rpc", broken.hops_times(sending_s=2)),
    ),
    "copying": (
        Broken("tcp", broken.without("copying"), refitted=True),
        Broken("tcp", broken.with_copying_after_the_wire),
    ),
    "dispatch": (
        Broken("tcp", broken.without("dispatch"), refitted=True),
        Broken("tcp", broken.with_the_dispatch_twice),
    ),
    "handover": (
        Broken("tcp", broken.without("handover"), refitted=True),
        Broken("tcp", broken.hops_times(handover_s=2)),
    ),
    "returning": (
        Broken("tcp", broken.without("returning"), refitted=True),
        Broken("tcp", broken.hops_times(last_s=2)),
    ),
    "answers": (
        Broken("rpc", broken.without("answers"), refitted=True),
        Broken("rpc", broken.hops_times(answering_s=2)),
        Broken("rpc", broken.with_batches_that_wait_for_answers),
        Broken("rpc", broken.with_answers_that_take_no_round_trip),
    ),
    "resting": (
        Broken("tcp", broken.without("resting"), refitted=True),
        Broken("rpc", broken.without("resting"), refitted=True),
        Broken("tcp", broken.without("resting")),
        Broken("rpc", broken.without("resting")),
    ),
    "headers": (
        Broken("tcp", broken.without_headers),
        Broken("rpc", broken.without_headers),
        Broken("tcp", broken.with_ethernet_headers, refitted=True),
    ),
    "delay": (
        Broken("tcp", broken.hops_times(delays_s=0)),
        Broken("rpc", broken.hops_times(delays_s=0)),
        Broken("tcp", broken.hops_times(delays_s=2)),
        Broken("tcp", broken.with_delays_that_occupy),
    ),
    "rate": (Broken("tcp", broken.with_more_rate(0.02)), Broken("rpc", broken.with_more_rate(0.1))),
    "blocks": (Broken("tcp", broken.stages_plus(blocks_s=0.01)), Broken("rpc", broken.stages_plus(blocks_s=0.01))),
    "stages": (Broken("tcp", broken.with_stages_swapped),),
    "activation": (Broken("tcp", broken.with_the_activation_of_the_block_before),),
    "queueing": (Broken("tcp", broken.without_queueing), Broken("rpc", broken.without_queueing)),
    "overlap": (Broken("tcp", broken.without_overlap), Broken("rpc", broken.without_overlap)),
    "burst": (
        Broken("tcp", broken.with_one_batch_more_in_a_burst),
        Broken("tcp", broken.without_waiting_in_a_burst),
    ),
    "window": (
        Broken("tcp", broken.with_a_window_of_one_more),
        Broken("tcp", broken.without_waiting_in_a_window),
        Broken("tcp", broken.without_the_windows_bound),
    ),
}  # fmt: skip
CASES = {
    f"{term} {number}, {case.backend}{', fitted again' * case.refitted}": case
    for term, cases in SHOWN.items()
    for number, case in enumerate(cases, start=1)
}


_CALIBRATION = "tests/paretosim/test_calibration.py"
_ONE_MODE = "cells are single, closed and burst, with overlapped workers and buffers that never fill"
# What no cell of the reference data shows, with the reason, and the test that holds it.
HIDDEN: dict[str, tuple[str, str]] = {
    "scale": (
        "emulated stages take their profile's time",
        f"{_CALIBRATION}::test_a_stage_scales_and_adds_its_overhead",
    ),
    "launch": (
        "an emulated accelerator launches nothing",
        f"{_CALIBRATION}::test_an_accelerator_launches_and_copies_both_ways",
    ),
    "copies": (
        "nor are tensors copied to it",
        f"{_CALIBRATION}::test_an_accelerator_launches_and_copies_both_ways",
    ),
    "contention": (
        "emulated stages wait for a clock and share no memory",
        f"{_CALIBRATION}::test_transfers_slow_the_stages_beside_them",
    ),
    "framing": (
        "a hundred bytes of it are a part of what a message costs, which no fit tells from it",
        f"{_CALIBRATION}::test_framing_goes_with_every_message",
    ),
    "receiving": (
        "left out, a fit gives its time to sending; which side of a hop it is on shows where one of them binds",
        f"{_CALIBRATION}::test_sending_occupies_the_link_and_receiving_is_a_station_of_its_own",
    ),
    "rpc": (
        "a message of hwrun's own backend travels with its call, after no round trip",
        f"{_CALIBRATION}::test_rpc_waits_round_trips_before_it_sends",
    ),
    "relay": ("no activation goes over a master", f"{_CALIBRATION}::test_a_relay_is_one_more_hop"),
    "window-cap": (
        "no link here carries a full window in less than its round trip",
        "tests/paretosim/test_transfer_time.py::test_a_window_a_round_trip_caps_the_rate",
    ),
    "slow-start": (
        "connections are warm",
        "tests/paretosim/test_transfer_time_cold.py::test_a_prediction_counts_the_stall_as_occupancy_of_the_link",
    ),
    "control delay": (
        "of 0.04 ms within one machine, which a fit gives to the dispatch",
        "tests/paretosim/test_prediction.py::test_a_dispatch_takes_the_control_delay_and_holds_nothing",
    ),
    "input": (
        "inputs lie at the first stage",
        "tests/paretosim/test_prediction.py::test_inputs_at_the_sink_travel_the_reverse_link_first",
    ),
    "return": (
        "results stay at the last stage",
        "tests/paretosim/test_prediction.py::test_where_the_sink_is_first_the_output_comes_back_and_split_n_sends_nothing",
    ),
    "paced": (
        _ONE_MODE,
        "tests/paretosim/test_pipeline.py::test_paced_is_as_fast_as_empty_and_as_busy_as_the_slowest_station",
    ),
    "open": (
        _ONE_MODE,
        "tests/paretosim/test_queueing.py::test_random_batches_wait_as_one_server_of_fixed_service_lets_them",
    ),
    "finite runs": (_ONE_MODE, "tests/paretosim/test_queueing.py::test_finite_runs_start_empty"),
    "buffers": (_ONE_MODE, "tests/paretosim/test_queueing.py::test_bounded_buffers_hold_what_has_no_room"),
    "serial workers": (_ONE_MODE, "tests/paretosim/test_serial_workers.py::test_measured_blocking_pairs_are_met"),
    "idle connections": (
        "simulated and not predicted",
        "tests/paretosim/test_simulation.py::test_a_new_connection_is_cold_and_a_used_one_remembers",
    ),
    "traces": (
        "simulated and not predicted; links are constant here",
        "tests/paretosim/test_simulation.py::test_a_link_that_slows_down_halfway_is_served_so",
    ),
    "jitter of stages": (
        "simulated and not predicted",
        "tests/paretosim/test_simulation.py::test_seeds_draw_the_same_times_around_the_mean",
    ),
    "jitter and loss of links": (
        "refused: predictions know neither",
        "tests/paretosim/test_link.py::test_a_link_with_jitter_or_loss_is_not_predicted_with",
    ),
    "more devices": (
        "chains here are of two",
        "tests/paretosim/test_placement.py::test_plans_are_predicted_wherever_they_are",
    ),
    "batch size": (
        "batches are of eight images, as profiled",
        "tests/paretosim/test_batch_interpolation.py::test_between_two_sizes_a_block_is_affine_and_of_the_profiles_kind",
    ),
    "memory": (
        "no host runs out of it",
        "tests/paretosim/test_memory.py::test_a_stage_holds_weights_its_largest_block_and_a_batch_at_both_ends",
    ),
    "energy": (
        "nothing measures it",
        "tests/paretosim/test_objectives.py::test_a_device_draws_idle_power_all_along_and_the_rest_while_it_computes",
    ),
}


def test_every_term_that_can_be_switched_off_is_shown_to_be_held_or_said_to_be_hidden() -> None:
    assert not set(SHOWN) & set(HIDDEN)
    assert set(TERMS) <= set(SHOWN) | set(HIDDEN)
    for _, held_by in HIDDEN.values():
        path, _, name = held_by.partition("::")
        assert f"def {name}(" in (ROOT / path).read_text()


@functools.cache
def _runs() -> tuple[Run, ...]:
    return tuple(map(read_run, _folders()))


def _fitted(backend: Backend) -> Calibration:
    seen, _ = parted(_runs(), backend, model=MODEL, links=LINKS)
    return calibrate(seen, STORE, backend, name="fitted", confidence=DEFAULT_CONFIDENCE, seed=0).calibration


@functools.cache
def _fitted_by_the_whole_model(backend: Backend) -> Calibration:
    return _fitted(backend)


def _missed(backend: Backend, calibration: Calibration) -> Bar | None:
    """The first bar that is missed: most breaks show in the scores of all cells already."""
    _, unseen = parted(_runs(), backend, model=MODEL, links=LINKS)
    joined = join(unseen, STORE, {backend: calibration})
    reports = functools.cache(functools.partial(report_on, joined))
    own = [bar for bar in read_bars(BARS) if backend in bar.group]
    return next((bar for bar in own if not judge([bar], reports)[0].passed), None)


@pytest.mark.parametrize("backend", ["tcp", "rpc"])
def test_nothing_is_missed_where_nothing_is_broken(backend: Backend) -> None:
    assert _missed(backend, _fitted_by_the_whole_model(backend)) is None


@pytest.mark.parametrize("name", CASES)
def test_a_model_with_a_broken_term_does_not_pass(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[name]
    calibration = None if case.refitted else _fitted_by_the_whole_model(case.backend)
    case.apply(monkeypatch)
    assert _missed(case.backend, calibration or _fitted(case.backend)) is not None
