"""Fits to phase times that the model itself made: parameters are found again, and what cannot be is named."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from hwrun.records import EchoSample, LinkMeasured, LinkProbe, RestedSample, RestingCost, read_run
from paretosim.calibration import NEUTRAL, Calibration, DeviceTerms, MessageCost, Resting
from paretosim.link import Link
from paretosim.mode import Mode
from paretosim.placement.hop_links import HopLinks
from paretosim.placement.setting import PlacementSetting
from paretosim.setting import Setting
from paretosim.transfer_time import serialisation_s
from tests.validation.conftest import BATCH, DEVICES, SyntheticRun, write_profiles
from validation.errors import FitError
from validation.fitting.fit import Fitted, fit
from validation.fitting.least_squares import Problem, minimise
from validation.fitting.observations import Case, Observation, Observed, Phase, Point
from validation.fitting.phase_times import PhaseTimes
from validation.probed import Probed, probed_copying

SINGLE, CLOSED, PACED = Mode.named("single"), Mode.named("closed"), Mode.named("paced")
LINKS = ((1e9, 0.0001), (50e6, 0.01), (2e6, 0.05))
SPLITS = (0, 1, 2, 3, 4, 5)
NOISE = 0.01
HIDDEN = "no link here is faster, so that it hides behind their wires"
ALL_PHASES: tuple[Phase, ...] = ("compute1", "compute2", "dispatch", "leaving", "transfer", "arriving", "result")


def _link(rate_bps: float, delay_s: float) -> Link:
    return Link(
        schema_version=1, name=f"{rate_bps:g}", rate_bps=rate_bps, one_way_delay_s=delay_s, return_rate_bps=rate_bps,
        return_delay_s=delay_s / 2,
    )  # fmt: skip


def _setting(run: SyntheticRun, mode: Mode, link: tuple[float, float], **changes: Any) -> Setting:
    store = run.store
    one, two = DEVICES
    setting = Setting(
        model=store.model(run.model), devices=(store.device(one), store.device(two)),
        timings=(store.timing(one, run.model), store.timing(two, run.model)), link=_link(*link), mode=mode, batch=BATCH,
        control_delay_s=0.0001,
    )  # fmt: skip
    return msgspec.structs.replace(setting, **changes)


def observed_of(
    truth: Calibration,
    settings: Sequence[Setting],
    *,
    emulated: bool,
    repeats: int = 3,
    noise: float = NOISE,
    seed: int = 0,
    runs: int = 1,
    phases: Sequence[Phase] = ALL_PHASES,
    splits: Sequence[int] = SPLITS,
) -> Observed:
    """Phase times of the true calibration, each with its own relative noise."""
    cases = tuple(Case(setting, emulated, True, ()) for setting in settings)
    points = []
    for number, setting in enumerate(settings):
        own: Sequence[Phase] = phases if setting.mode.name in ("single", "paced") else ()
        for phase in (*own, *(("period",) if setting.mode.name != "single" else ())):
            if phase.startswith("compute") and emulated:
                continue
            # An empty stage computes nothing, and none of it is recorded.
            idle = {"compute1": 0, "compute2": len(setting.model.blocks)}.get(phase)
            points += [Point(number, split, phase) for split in splits if split != idle]
    bare = Observed(cases, tuple(Observation(point, "run0", 0, 1.0, noise) for point in points))
    seconds = PhaseTimes(bare)(truth)
    random = np.random.default_rng(seed)
    observations = []
    for point, true_s in zip(points, seconds.tolist(), strict=True):
        if not true_s:
            continue  # no phase lasts no time
        for run in range(runs):
            for repeat in range(repeats):
                spread = noise / 10 if point.phase == "period" else noise
                measured_s = true_s * float(np.exp(spread * random.standard_normal()))
                observations.append(Observation(point, f"run{run}", repeat, measured_s, spread))
    return Observed(cases, tuple(observations))


HOST = Calibration(
    schema_version=NEUTRAL.schema_version,
    name="truth",
    backend="tcp",
    devices={
        "*": DeviceTerms(
            sending=MessageCost(message_s=4e-4), arriving_s=2e-4, leaving_s=1.5e-4, overhead_s=8e-5,
            returning=MessageCost(message_s=3e-4), copying_bytes_per_s=4e7,
        )
    },
    dispatch_s=2.5e-4,
)  # fmt: skip
FOUND = (
    "devices.*.sending.message_s", "devices.*.arriving_s", "devices.*.returning.message_s",
    "devices.*.copying_bytes_per_s", "dispatch_s",
)  # fmt: skip


def _true(calibration: Calibration, path: str) -> float:
    value: Any = msgspec.to_builtins(calibration)
    for name in path.split("."):
        value = value[name]
    return float(value)


def _found(fitted: Fitted, path: str) -> Any:
    return next(parameter for parameter in fitted.parameters if parameter.path == path)


@pytest.fixture(scope="module")
def emulated_settings(tmp_path_factory: pytest.TempPathFactory) -> list[Setting]:
    folder = tmp_path_factory.mktemp("emulated")
    run = SyntheticRun(folder=folder / "run", profiles=write_profiles(folder / "profiles"))
    return [_setting(run, mode, link, speed=20.0) for mode in (SINGLE, CLOSED) for link in LINKS]


@pytest.fixture(scope="module")
def host_fitted(emulated_settings: list[Setting]) -> Fitted:
    """Fitted to all phases, on all links, alone and in a full pipeline."""
    return fit(observed_of(HOST, emulated_settings, emulated=True), seed=1)


def test_what_a_host_costs_is_found_again(host_fitted: Fitted) -> None:
    fitted = host_fitted
    for path in FOUND:
        parameter = _found(fitted, path)
        assert parameter.known == "fitted"
        assert parameter.value == pytest.approx(_true(HOST, path), rel=0.05), path
        low, high = parameter.interval
        assert low < parameter.value < high
    # Both lie between computing and sending; only how often a batch leaves tells them apart.
    assert _found(fitted, "devices.*.overhead_s").value == pytest.approx(8e-5, rel=0.05)
    assert _found(fitted, "devices.*.leaving_s").value == pytest.approx(1.5e-4, rel=0.05)
    assert fitted.agreeing >= 2
    host = ("dispatch", "leaving", "transfer", "arriving", "result")
    assert all(residual.after < residual.before / 2 for residual in fitted.phases if residual.phase in host)


def test_what_devices_cost_is_found_again(synthetic: Callable[..., SyntheticRun]) -> None:
    run = synthetic()
    truth = Calibration(
        schema_version=NEUTRAL.schema_version, name="truth", backend="tcp", dispatch_s=3e-4,
        devices={
            "slow": DeviceTerms(
                gamma=1.3, kappa=0.4, overhead_s=3e-3, sending=MessageCost(message_s=2e-3), leaving_s=2e-4
            ),
            "fast": DeviceTerms(gamma=0.8, kappa=0.2, arriving_s=5e-4, returning=MessageCost(message_s=4e-4)),
        },
    )  # fmt: skip
    settings = [_setting(run, mode, link) for mode in (SINGLE, PACED) for link in LINKS[:2]]
    fitted = fit(observed_of(truth, settings, emulated=False, noise=0.003), seed=2)
    for path, within in (
        ("devices.slow.gamma", 0.01), ("devices.fast.gamma", 0.01), ("devices.slow.kappa", 0.1),
        ("devices.fast.kappa", 0.2), ("devices.slow.overhead_s", 0.1), ("devices.slow.sending.message_s", 0.05),
        ("devices.fast.arriving_s", 0.05), ("dispatch_s", 0.05),
    ):  # fmt: skip
        assert _found(fitted, path).value == pytest.approx(_true(truth, path), rel=within), path
    # Leaving the last stage and the result's way are one phase: the time is there, under one of the names.
    assert _found(fitted, "devices.fast.leaving_s").value == pytest.approx(4e-4, rel=0.05)
    assert "devices.fast.leaving_s" in _found(fitted, "devices.fast.returning.message_s").why


def test_what_the_backend_is_made_like_is_not_left_to_a_fit(synthetic: Callable[..., SyntheticRun]) -> None:
    truth = Calibration(
        schema_version=NEUTRAL.schema_version, name="truth", backend="rpc", rpc_answers=1.0, rpc_answer_s=4e-4,
        dispatch_s=3e-4, devices={"*": DeviceTerms(sending=MessageCost(message_s=1e-3), arriving_s=2e-4)},
    )  # fmt: skip
    run = synthetic()
    setting = _setting(run, SINGLE, LINKS[0], speed=20.0, backend="rpc", calibration=truth)
    # One link alone could not tell round trips from what a message costs.
    fitted = fit(observed_of(truth, [setting], emulated=True, phases=(*ALL_PHASES, "calling")))
    assert fitted.calibration.backend == "rpc"
    assert (fitted.calibration.rpc_round_trips, fitted.calibration.rpc_answers) == (0, 1)
    assert "travels with its call" in _found(fitted, "rpc_round_trips").why
    assert _found(fitted, "rpc_answer_s").value == pytest.approx(4e-4, rel=0.2)


def test_a_hop_that_a_call_holds_is_told_from_what_a_message_costs(synthetic: Callable[..., SyntheticRun]) -> None:
    truth = Calibration(
        schema_version=NEUTRAL.schema_version, name="truth", backend="rpc", rpc_answers=1.0, rpc_answer_s=6e-4,
        dispatch_s=3e-4, devices={"*": DeviceTerms(sending=MessageCost(message_s=2e-3), arriving_s=2e-4)},
    )  # fmt: skip
    run = synthetic()
    calibrated = {"backend": "rpc", "calibration": truth, "speed": 50.0}
    settings = [_setting(run, mode, link, **calibrated) for link in LINKS[:2] for mode in (SINGLE, CLOSED)]
    fitted = fit(observed_of(truth, settings, emulated=True, phases=(*ALL_PHASES, "calling")))
    assert fitted.agreeing == fitted.starts
    answers = _found(fitted, "rpc_answers")
    assert (answers.value, answers.known) == (1.0, "fixed")
    assert "one call at a time" in answers.why
    assert _found(fitted, "rpc_answer_s").value == pytest.approx(6e-4, rel=0.1)
    assert _found(fitted, "devices.*.sending.message_s").value == pytest.approx(2e-3, rel=0.1)


def _chain(setting: Setting, devices: Sequence[str], run: SyntheticRun, **changes: Any) -> PlacementSetting:
    return PlacementSetting(
        model=setting.model, devices=tuple(map(run.store.device, devices)),
        timings=tuple(run.store.timing(device, run.model) for device in devices),
        links=HopLinks(every=setting.link, own={}), batch=setting.batch, mode=setting.mode,
        control_delay_s=setting.control_delay_s, backend=setting.backend, **changes,
    )  # fmt: skip


def test_chains_are_cut_into_the_phases_that_two_stages_are(synthetic: Callable[..., SyntheticRun]) -> None:
    truth = msgspec.structs.replace(
        HOST, backend="rpc", rpc_answers=1.0, rpc_answer_s=5e-4, framing_bytes=90,
        devices={"*": msgspec.structs.replace(HOST.devices["*"], receiving=MessageCost(message_s=2e-4), kappa=0.3)},
    )  # fmt: skip
    run = synthetic()
    phases: tuple[Phase, ...] = (*ALL_PHASES, "calling", "period")
    for mode in (SINGLE, CLOSED):
        setting = _setting(run, mode, LINKS[1], backend="rpc", calibration=truth)
        two = tuple(Point(0, split, phase) for split in (2, 3) for phase in phases)
        places = {"compute2": 1, "arriving": 1}
        chain = tuple(Point(0, (split,), phase, places.get(phase, 0)) for split in (2, 3) for phase in phases)
        found = [
            PhaseTimes(Observed((Case(of, False, True, ()),), tuple(Observation(p, "", 0, 1.0, 0.1) for p in points)))(
                truth
            )
            for of, points in ((setting, two), (_chain(setting, DEVICES, run, calibration=truth), chain))
        ]
        assert found[1] == pytest.approx(found[0], rel=1e-9)


def test_a_fit_takes_plans_of_three_stages(synthetic: Callable[..., SyntheticRun]) -> None:
    run = synthetic()
    one, two = DEVICES
    settings = [_setting(run, mode, link) for link in LINKS[:2] for mode in (SINGLE, CLOSED)]
    cases = tuple(Case(_chain(setting, (one, two, one), run), True, True, ()) for setting in settings)
    points = [
        Point(number, cuts, phase, place)
        for number, case in enumerate(cases)
        for cuts in ((1, 3), (2, 4), (1, 5))
        for phase, place in (
            (("dispatch", 0), ("leaving", 0), ("transfer", 0), ("arriving", 1), ("leaving", 1), ("transfer", 1),
             ("arriving", 2), ("result", 0)) if case.setting.mode.name == "single" else (("period", 0),)
        )
    ]  # fmt: skip
    bare = Observed(cases, tuple(Observation(point, "run", 0, 1.0, NOISE) for point in points))
    seconds = PhaseTimes(bare)(HOST).tolist()
    random = np.random.default_rng(3)
    noisy = [
        Observation(point, "run", repeat, true_s * float(np.exp(NOISE * random.standard_normal())), NOISE)
        for point, true_s in zip(points, seconds, strict=True)
        for repeat in range(3)
    ]
    fitted = fit(Observed(cases, tuple(noisy)))
    for path in ("devices.*.sending.message_s", "devices.*.arriving_s", "dispatch_s"):
        assert _found(fitted, path).value == pytest.approx(_true(HOST, path), rel=0.1), path


def test_what_no_cell_tells_apart_is_fixed_and_said(emulated_settings: list[Setting], host_fitted: Fitted) -> None:
    single = fit(observed_of(HOST, emulated_settings[:3], emulated=True))
    receiving = _found(single, "devices.*.receiving.message_s")
    assert (receiving.known, receiving.value, receiving.interval) == ("fixed", 0.0, None)
    assert "devices.*.sending.message_s" in receiving.why  # only a full pipeline tells which side is held
    returning = _found(host_fitted, "devices.*.returning.bytes_per_s")
    assert (returning.known, returning.value) == ("fixed", None)
    assert "devices.*.returning.message_s" in returning.why  # every result has as many bytes
    no_bytes = fit(observed_of(HOST, emulated_settings[:3], emulated=True, phases=("dispatch",)))
    assert _found(no_bytes, "devices.*.copying_bytes_per_s").why == "no observation depends on it"
    assert [p.path for p in no_bytes.parameters if p.known == "fitted"] == ["dispatch_s"]


def test_a_probe_stands_where_cells_do_not_tell(emulated_settings: list[Setting]) -> None:
    probed = Probed(per_byte_s=2e-9, low=1e-9, high=4e-9, per_message_s=1e-4, probes=3)
    fitted = fit(observed_of(HOST, emulated_settings[:3], emulated=True, phases=("dispatch", "arriving")), probed)
    copying = _found(fitted, "devices.*.copying_bytes_per_s")
    assert (copying.known, copying.value) == ("probe", pytest.approx(5e8))
    assert copying.interval == pytest.approx((2.5e8, 1e9))
    assert fitted.calibration.devices["*"].copying_bytes_per_s == pytest.approx(5e8)


def test_no_pipeline_is_found_to_copy_faster_than_the_probes_echo(emulated_settings: list[Setting]) -> None:
    echo = Probed(per_byte_s=1 / 3e7, low=1 / 3.2e7, high=1 / 2.5e7, per_message_s=1e-4, probes=3)
    found = fit(observed_of(HOST, emulated_settings, emulated=True), echo)  # which copies 4e7 bytes a second
    copying = _found(found, "devices.*.copying_bytes_per_s")
    assert (copying.known, copying.value) == ("fitted", pytest.approx(3.2e7))
    assert copying.why == "as fast as the probes' echo, and no faster"
    slower = fit(observed_of(HOST, emulated_settings, emulated=True), replace(echo, low=1 / 8e7))
    assert _found(slower, copying.path).value == pytest.approx(4e7, rel=0.05)
    assert _found(slower, copying.path).why == ""


def test_how_much_later_threads_wake_is_the_probes_and_what_they_cost_anyway_is_found_beside_it(
    emulated_settings: list[Setting],
) -> None:
    law = RestingCost(later_s=7e-4, half_s=0.06)
    truth = msgspec.structs.replace(HOST, resting=Resting(later_s=law.later_s, half_s=law.half_s))
    observed = observed_of(truth, emulated_settings, emulated=True)
    probed = Probed(per_byte_s=2e-9, low=1e-9, high=4e-9, per_message_s=1e-4, probes=3, resting=law)
    fitted = fit(observed, probed)
    assert fitted.calibration.resting == truth.resting
    listed = [(p.path, p.value, p.known) for p in fitted.parameters if p.path.startswith("resting.")]
    assert listed == [("resting.later_s", 7e-4, "probe"), ("resting.half_s", 0.06, "probe")]
    for path in FOUND:
        assert _found(fitted, path).value == pytest.approx(_true(HOST, path), rel=0.1), path
    assert fit(observed).calibration.resting is None


def test_rests_are_of_all_unshaped_probes_together(synthetic: Callable[..., SyntheticRun]) -> None:
    run = read_run(synthetic(splits=(1,), repeats=1).write())
    cell = msgspec.structs.replace(run.cells[0], link_asked=None)

    def probe(later_s: float, link: Any = None) -> LinkProbe:
        rested = tuple(
            RestedSample(pause_s=p, size_bytes=64, round_trips_s=(2e-4 + later_s * p / (p + 0.06),) * 5)
            for p in (0.0, 0.01, 0.05, 0.2)
        )
        echo = tuple(EchoSample(size_bytes=size, round_trips_s=(2e-4 + size * 2e-10,)) for size in (64, 2**20))
        measured = LinkMeasured(
            medium="loopback", rtt_samples_s=(2e-4,), goodput_bps=1e10, probe_bytes=1, echo=echo, rested=rested
        )
        return LinkProbe(
            link_name="any", link_asked=link, moment="before", started_utc="", near="A", far="B", measured=measured
        )

    probes = (probe(5e-4), probe(7e-4), probe(9e-4), probe(1.0, LINKS[0]))
    found = probed_copying([msgspec.structs.replace(run, cells=(cell,), probes=probes)])
    assert found is not None
    assert found.resting is not None
    assert found.resting.later_s == pytest.approx(7e-4, rel=0.02)
    assert found.resting.half_s == pytest.approx(0.06, rel=0.05)
    none = msgspec.structs.replace(probes[0].measured, rested=())
    bare = probed_copying(
        [msgspec.structs.replace(run, cells=(cell,), probes=(msgspec.structs.replace(probes[0], measured=none),))]
    )
    assert bare is not None
    assert bare.resting is None


def test_a_probe_stands_where_every_link_is_slower_than_copying(emulated_settings: list[Setting]) -> None:
    """A fit could only push copying against the links' own rates, and would then be far off on any faster one."""
    slow = [setting for setting in emulated_settings if setting.link.rate_bps < 100e6]
    assert slow
    truth = msgspec.structs.replace(
        HOST, devices={"*": msgspec.structs.replace(HOST.devices["*"], copying_bytes_per_s=3e9)}
    )
    probed = Probed(per_byte_s=1 / 3e9, low=3e-10, high=4e-10, per_message_s=1e-4, probes=2)
    fitted = fit(observed_of(truth, slow, emulated=True), probed)
    copying = _found(fitted, "devices.*.copying_bytes_per_s")
    assert (copying.known, copying.value) == ("probe", pytest.approx(3e9))
    assert copying.why == HIDDEN


@pytest.mark.parametrize("rate_bps", [50e6, 200e6])
def test_a_wire_is_not_taken_for_copying(emulated_settings: list[Setting], rate_bps: float) -> None:
    """What messages cost beside the model's terms must not end as the rate of the fastest link, which no faster has."""
    links = [_link(rate_bps, 0.001), _link(rate_bps / 10, 0.01)]
    truth = msgspec.structs.replace(
        HOST, devices={"*": msgspec.structs.replace(HOST.devices["*"], copying_bytes_per_s=3e9)}
    )
    settings = [
        msgspec.structs.replace(emulated_settings[0], link=link, mode=m) for link in links for m in (SINGLE, CLOSED)
    ]
    fitted = fit(observed_of(truth, settings, emulated=True))
    copying = _found(fitted, "devices.*.copying_bytes_per_s")
    assert (copying.known, copying.value, copying.why) == ("fixed", None, HIDDEN)
    assert fitted.calibration.devices["*"].copying_bytes_per_s is None


@pytest.mark.parametrize(("slower", "known"), [(1.02, "fixed"), (1.2, "fitted")])
def test_copying_is_found_where_it_is_slower_than_the_wire_by_more_than_a_link_may_be_off(
    emulated_settings: list[Setting], slower: float, known: str
) -> None:
    settings = [setting for setting in emulated_settings if setting.link.rate_bps < 100e6]
    wire_s = float(serialisation_s(10**9, settings[0].link)) / 1e9
    truth = msgspec.structs.replace(
        HOST, devices={"*": msgspec.structs.replace(HOST.devices["*"], copying_bytes_per_s=1 / (slower * wire_s))}
    )
    copying = _found(fit(observed_of(truth, settings, emulated=True)), "devices.*.copying_bytes_per_s")
    assert copying.known == known
    assert known == "fixed" or copying.value == pytest.approx(1 / (slower * wire_s), rel=0.05)


def test_what_is_correlated_and_needed_all_the_same_is_kept_and_said(emulated_settings: list[Setting]) -> None:
    fast, *_ = emulated_settings
    settings = [fast, *(setting for setting in emulated_settings[3:5])]  # the others: a full pipeline over two links
    fitted = fit(observed_of(HOST, settings, emulated=True, noise=0.001, splits=(1, 2)))
    leaving = _found(fitted, "devices.*.leaving_s")
    assert (leaving.known, leaving.value) == ("fitted", pytest.approx(1.5e-4, rel=0.02))
    assert re.fullmatch(r"correlation 0\.99\d with devices\.\*\.overhead_s, kept: fits worse without", leaving.why)


def test_one_wild_observation_hardly_moves_a_parameter(emulated_settings: list[Setting]) -> None:
    sane = observed_of(HOST, emulated_settings[:1], emulated=True, phases=("dispatch", "arriving"))
    first, *others = sane.observations
    assert first.point.phase == "dispatch"
    wild = Observed(sane.cases, (replace(first, seconds=20 * first.seconds), *others))
    without, with_it = (_found(fit(observed), "dispatch_s") for observed in (sane, wild))
    # Least squares of the logarithms would move by ln 20 over 18 observations of it, which is 18 %.
    assert with_it.value == pytest.approx(without.value, rel=0.005)
    assert with_it.interval == pytest.approx(without.interval, rel=0.02)


def test_starts_that_agree_are_counted_in_the_file(host_fitted: Fitted) -> None:
    calibration = host_fitted.calibration
    assert (calibration.agreeing, calibration.starts) == (host_fitted.agreeing, 5)


def test_a_start_at_which_nothing_is_predicted_leads_nowhere_and_others_do() -> None:
    def predict(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(values < 5, values + 1, np.inf)

    problem = Problem(
        predict=predict, place=np.array([0, 0]), measured_s=np.array([3.0, 3.0]), spread=np.array([0.1, 0.1]),
        least=np.array([0.0]), most=np.array([10.0]),
    )  # fmt: skip
    found = minimise(problem, [np.array([6.0]), np.array([1.0])])
    assert found.values == pytest.approx([2.0], rel=1e-4)
    assert (found.agreeing, found.starts) == (1, 2)
    with pytest.raises(FitError, match="no start led anywhere"):
        minimise(problem, [np.array([6.0])])


def test_too_little_is_refused(emulated_settings: list[Setting]) -> None:
    few = observed_of(HOST, emulated_settings[:1], emulated=True, repeats=1, phases=("dispatch",), splits=(1, 2))
    with pytest.raises(FitError, match=r"got 2 phase times, expected 4 or more; measure cells in mode single or paced"):
        fit(few)


@pytest.mark.parametrize(("runs", "repeats", "level"), [(1, 3, "repeats"), (1, 1, "cells"), (3, 1, "runs")])
def test_whole_runs_are_drawn_where_there_are_several(
    emulated_settings: list[Setting], runs: int, repeats: int, level: str
) -> None:
    observed = observed_of(
        HOST, emulated_settings[:2], emulated=True, runs=runs, repeats=repeats, phases=("dispatch", "arriving")
    )
    assert fit(observed).drawn == level


def test_intervals_hold_the_truth_about_as_often_as_they_say(emulated_settings: list[Setting]) -> None:
    """Of 24 trials of 3 parameters, 65 are expected; fewer than 54 has a chance below one in a thousand."""
    held = 0
    paths = ("devices.*.sending.message_s", "devices.*.arriving_s", "dispatch_s")
    for seed in range(24):
        observed = observed_of(
            HOST, emulated_settings[:1], emulated=True, noise=0.05, seed=seed, repeats=4, splits=(1, 2, 3),
            phases=("dispatch", "transfer", "arriving"),
        )  # fmt: skip
        fitted = fit(observed, seed=seed)
        for path in paths:
            low, high = _found(fitted, path).interval
            held += low <= _true(HOST, path) <= high
    assert 54 <= held <= 71
