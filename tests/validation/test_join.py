"""The join: exact predictions score zero, unlike conditions are refused with both sides named."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from hwrun.records import (
    CELLS_NAME,
    BatchRecord,
    EchoSample,
    LinkProbe,
    Phases,
    SocketBuffers,
    SubRun,
    append_cell,
    read_run,
)
from paretosim.calibration import Calibration, DeviceTerms
from paretosim.errors import UnlikeConditionsError
from paretosim.mode import Mode
from paretosim.plan import Plan
from paretosim.profiles import read_profile, write_profile
from paretosim.timing import Timing
from paretosim.transfer_time import serialisation_s
from validation.assessment import assess, basis_of
from validation.fitting.observations import cases_of
from validation.join import Joined, join
from validation.predicting import Inputs
from validation.verdict import verdict

MODES = (Mode(name="single"), Mode(name="paced"), Mode.named("closed", window=3), Mode.named("burst", batches=5))


CUT_ELEMENTS = (3000, 8000, 4000, 1000, 300, 10)  # of the toy model in conftest.py


# Two workers on two cores: each on its own, and both on either.
_PINNED = tuple({"threads": 1, "cores": core} for core in ("0", "1"))
_FLOATING = ({"threads": 1, "cores": "0,1"},) * 2


def joined(run: object) -> Joined:
    return join([read_run(run.write())], run.store)


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("unshaped", [False, True], ids=["shaped", "unshaped"])
def test_records_of_the_model_itself_have_no_error_and_its_fronts(
    synthetic: Callable, mode: Mode, unshaped: bool
) -> None:
    run = synthetic(modes=(mode,), **({"links": (None,)} if unshaped else {}))
    found = assess(joined(run), 0.02)
    assert [basis.basis for basis in found.bases] == ["uncalibrated"]
    for score in (found.bases[0].scores.latency, found.bases[0].scores.throughput):
        assert score is not None
        assert score.mape == pytest.approx(0, abs=1e-9)
        assert score.within == 1.0
    assert len(found.joined.comparisons) == 6
    assert found.conditions[0].front is not None
    assert found.conditions[0].front.agrees
    for comparison in found.joined.comparisons:
        assert [stage.measured for stage in comparison.stages] == pytest.approx(list(comparison.predicted.stages_s))


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("emulated", [True, False])
def test_with_the_sink_first_a_trailing_empty_stage_that_took_no_part_is_joined_as_one_of_no_time(
    synthetic: Callable, mode: Mode, emulated: bool
) -> None:
    found = joined(synthetic(sink="first", modes=(mode,), emulated=emulated, speed=2.0 if emulated else 1.0))
    assert [comparison.cuts for comparison in found.comparisons] == [(s,) for s in range(6)]
    last = found.comparisons[-1]
    assert last.latency.error == pytest.approx(0, abs=1e-9)
    assert last.throughput.error == pytest.approx(0, abs=1e-9)
    assert (last.stages[1].measured, last.stages[1].predicted, last.transfers) == (0, 0, ())
    assert all(comparison.stages[1].measured > 0 for comparison in found.comparisons[:-1])


def test_a_missing_target_is_taken_for_an_empty_stage_only_with_the_sink_first(synthetic: Callable) -> None:
    with pytest.raises(UnlikeConditionsError, match="stage targets: got 1, expected 2"):
        joined(synthetic(cell_changes={"stage_targets_s": (0.1,)}))
    with pytest.raises(UnlikeConditionsError, match="time of stage 2: emulated with 0 s"):
        joined(synthetic("other", sink="first", splits=(0,), cell_changes={"stage_targets_s": (0.0,)}))


def test_transfer_phase_is_compared_where_one_clock_sees_both_ends(synthetic: Callable) -> None:
    run = synthetic(factors=lambda split, repeat: SimpleNamespace(latency=1.0, throughput=1.0, transfer=1.25))
    found = joined(run)
    for comparison in found.comparisons:
        assert [transfer.error for transfer in comparison.transfers] == [pytest.approx(-0.2)]


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"kind": "remote"}, "share no clock"), ({"modes": (Mode.named("closed"),)}, "queue for the link")],
)
def test_transfer_phase_is_left_out_where_it_cannot_be_timed_and_that_is_said(
    synthetic: Callable, changes: dict[str, object], said: str
) -> None:
    found = joined(synthetic(**changes))
    assert all(comparison.transfers == () for comparison in found.comparisons)
    assert any(said in note for note in found.conditions[0].notes)


def test_cold_connections_are_predicted_cold_and_apart_from_warm_ones(synthetic: Callable) -> None:
    # Only a link that holds more than the first ten segments stalls a cold connection.
    links = (msgspec.structs.replace(synthetic().links[0], name="100mbit,20ms", rate_bps=100e6),)
    run = synthetic(repeats=1, links=links)
    folder = run.write()
    cold = synthetic(repeats=1, links=links, tcp_state="cold")
    for split in run.splits:
        append_cell(folder, cold.cell(run.modes[0], run.links[0], split, 0))
    found = join([read_run(folder)], run.store)
    assert [condition.condition.tcp_state for condition in found.conditions] == ["warm", "cold"]
    assert found.superseded == 0
    for comparison in found.comparisons:
        assert comparison.latency.error == pytest.approx(0, abs=1e-9)
        assert [transfer.error for transfer in comparison.transfers] == [pytest.approx(0, abs=1e-9)]
    warm, cold_plan = (condition.comparisons[1].predicted for condition in found.conditions)
    assert cold_plan.latency_s > warm.latency_s


def test_perturbed_measurements_have_the_errors_put_in(synthetic: Callable) -> None:
    run = synthetic(factors=lambda split, repeat: SimpleNamespace(latency=1.25, throughput=0.8, transfer=1.0))
    comparison = joined(run).comparisons[2]
    assert comparison.latency.error == pytest.approx(-0.2)
    assert comparison.throughput.error == pytest.approx(0.25)


def test_repeats_are_one_cell_with_their_median_and_spread(synthetic: Callable) -> None:
    factors = {0: 1.0, 1: 1.1, 2: 1.3}
    run = synthetic(
        repeats=3, factors=lambda s, repeat: SimpleNamespace(latency=factors[repeat], throughput=1.0, transfer=1.0)
    )
    comparison = joined(run).comparisons[0]
    assert len(comparison.repeats) == 3
    assert comparison.latency.measured == pytest.approx(1.1 * comparison.predicted.latency_s)
    assert comparison.latency.noise_floor == pytest.approx(0.15 / 1.1)
    assert comparison.latency.noise_basis == "between repeats"


def test_one_repeat_says_that_its_floor_is_its_own(synthetic: Callable) -> None:
    comparison = joined(synthetic(repeats=1)).comparisons[0]
    assert comparison.latency.noise_basis == "within one repeat"


def test_queueing_within_one_burst_is_not_taken_for_noise(synthetic: Callable) -> None:
    comparison = joined(synthetic(repeats=1, modes=(Mode.named("burst"),))).comparisons[0]
    assert len(set(comparison.repeats[0].latency_samples_s)) > 1
    assert (comparison.latency.noise_floor, comparison.latency.noise_basis) == (None, "unknown")


def test_conditions_go_from_the_fastest_link_to_the_slowest(synthetic: Callable) -> None:
    slow = synthetic().links[0]
    fast = msgspec.structs.replace(slow, name="100mbit,20ms", rate_bps=100e6)
    found = joined(synthetic(links=(slow, fast, None), splits=(1,)))
    assert [entry.condition.link_name for entry in found.conditions] == ["unshaped", "100mbit,20ms", "5mbit,20ms"]


def test_an_unshaped_link_is_predicted_as_probed_and_says_so(synthetic: Callable) -> None:
    run = synthetic(links=(None,), goodput_bps=8e6, rtt_s=0.004)
    condition = joined(run).conditions[0]
    [link] = condition.inputs.links
    assert condition.link_origin == "probed"
    assert (link.rate_bps, link.one_way_delay_s, link.header_bytes) == (8e6, 0.002, 0)
    predicted = condition.comparisons[2].predicted
    assert predicted.transfers_s[0] == pytest.approx(predicted.activation_bytes[0] * 8 / 8e6 + 0.002)
    assert any("unshaped" in note for note in condition.notes)


@pytest.mark.parametrize(
    ("medium", "echoed_bytes_per_s", "rate_bps"),
    [("loopback", 4e6, 3.2e7), ("veth", 4e6, 3.2e7), ("loopback", 0.5e6, 8e6), ("network", 4e6, 8e6)],
)
def test_an_unshaped_link_within_one_machine_is_as_fast_as_the_faster_of_bulk_and_echo(
    synthetic: Callable, medium: Any, echoed_bytes_per_s: float, rate_bps: float
) -> None:
    made = synthetic(links=(None,), goodput_bps=8e6, rtt_s=0.004)
    run = read_run(made.write())
    found = run.cells[0].link_measured
    assert found is not None
    measured = msgspec.structs.replace(found, medium=medium)
    cells = tuple(msgspec.structs.replace(cell, link_measured=measured) for cell in run.cells)
    echo = tuple(
        EchoSample(size_bytes=size, round_trips_s=(0.004 + size / echoed_bytes_per_s,)) for size in (64, 2**16, 2**20)
    )
    probe = LinkProbe(
        link_name="unshaped", link_asked=None, moment="before", started_utc="", near="A", far="B",
        measured=msgspec.structs.replace(measured, echo=echo),
    )  # fmt: skip
    condition = join([msgspec.structs.replace(run, cells=cells, probes=(probe,))], made.store).conditions[0]
    assert condition.inputs.links[0].rate_bps == pytest.approx(rate_bps)


def test_an_unshaped_link_of_unknown_rate_is_listed_and_not_guessed(synthetic: Callable) -> None:
    run = synthetic(links=(None,))
    folder = run.write()
    cells = read_run(folder).cells
    (folder / CELLS_NAME).unlink()
    for cell in cells:
        probe = msgspec.structs.replace(cell.link_measured, goodput_bps=None)
        append_cell(folder, msgspec.structs.replace(cell, link_measured=probe))
    found = join([read_run(folder)], run.store)
    assert not found.comparisons
    assert {entry.status for entry in found.unjoined} == {"not joined"}
    assert len(found.unjoined) == len(cells)


def test_a_shaped_link_that_misses_what_was_asked_is_flagged(synthetic: Callable) -> None:
    run = synthetic()
    folder = run.write()
    cells = read_run(folder).cells
    (folder / CELLS_NAME).unlink()
    for cell in cells:
        probe = msgspec.structs.replace(cell.link_measured, goodput_bps=4e6, rtt_samples_s=(0.0204,))
        append_cell(folder, msgspec.structs.replace(cell, link_measured=probe))
    [check] = join([read_run(folder)], run.store).conditions[0].link_checks
    assert check.goodput_deviation == pytest.approx(4e6 / (5e6 * 1448 / 1514) - 1)
    assert check.rtt_deviation == pytest.approx(0.02)
    assert check.flags == ("rate -16.4%",)


def test_skipped_and_failed_cells_keep_their_reason_and_remedy(synthetic: Callable) -> None:
    run = synthetic()
    folder = run.write()
    cell = read_run(folder).cells[0]
    for repeat, status in ((7, "skipped"), (8, "failed")):
        append_cell(
            folder,
            msgspec.structs.replace(
                cell, repeat=repeat, status=status, subruns=(), reason=f"why {status}", remedy=f"cure {status}"
            ),
        )
    found = join([read_run(folder)], run.store)
    assert [(e.status, e.reason, e.remedy) for e in found.unjoined] == [
        ("failed", "why failed", "cure failed"),
        ("skipped", "why skipped", "cure skipped"),
    ]


def test_a_done_cell_without_enough_batches_is_listed_with_the_reason(synthetic: Callable) -> None:
    found = joined(synthetic(batches=1))
    assert not found.comparisons
    assert all("1 completions" in entry.reason for entry in found.unjoined)


def test_the_last_record_of_a_cell_counts_and_others_are_counted(synthetic: Callable) -> None:
    """A sweep refuses what it has done by one more record; measured anew, the cell is done again."""
    run = synthetic(repeats=1)
    folder = run.write()
    cell = read_run(folder).cells[0]
    append_cell(folder, msgspec.structs.replace(cell, status="failed", reason="not the link", remedy="resume"))
    found = join([read_run(folder)], run.store)
    assert (found.superseded, found.missing, len(found.comparisons)) == (1, 0, 5)
    (refused,) = found.unjoined
    assert (refused.status, refused.plan, refused.reason) == ("failed", cell.plan, "not the link")
    append_cell(folder, cell)
    found = join([read_run(folder)], run.store)
    assert (found.superseded, found.missing, len(found.comparisons)) == (2, 0, 6)
    assert not found.unjoined


def test_a_half_written_line_is_counted_and_its_cell_missed(synthetic: Callable) -> None:
    run = synthetic()
    path = run.write() / CELLS_NAME
    path.write_bytes(path.read_bytes()[:-40])
    found = join([read_run(run.folder)], run.store)
    assert found.runs[0].dropped_lines == 1
    assert found.missing == 1
    assert "1 planned but not recorded" in str(verdict(assess(found, 0.02)))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cell_changes": {"speed": 4.0}}, "the cell has 4.0 and its manifest 2.0"),
        ({"cell_changes": {"emulated": False}}, "the cell has False and its manifest True"),
        ({"cell_changes": {"stage_targets_s": None}}, "is emulated but records none"),
        ({"cell_changes": {"stage_targets_s": (0.1, 0.2)}}, "emulated with 0.1 s and predicted as"),
        ({"cell_changes": {"plan": "toy@slow[0:1]+fast[1:4]/b8/w-/tcp/f32"}}, "the plan ends at 4 and the profile"),
        ({"manifest_changes": {"timings": {}}}, "names no timing of slow/toy"),
        ({"manifest_changes": {"timings": {"slow/toy": "abc", "fast/toy": "def"}}}, "the run was made with abc and"),
    ],
)
def test_unlike_conditions_are_refused_with_both_sides_named(
    synthetic: Callable, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(UnlikeConditionsError) as refusal:
        joined(synthetic(splits=(1,), **changes))
    assert said in str(refusal.value)


def test_a_window_that_plan_and_mode_disagree_on_is_refused(synthetic: Callable) -> None:
    plan = str(Plan.two_devices("toy", 5, 1, ("slow", "fast"), window=2))
    with pytest.raises(UnlikeConditionsError, match="the plan has 2 and the mode 4"):
        joined(synthetic(splits=(1,), modes=(Mode.named("closed"),), cell_changes={"plan": plan}))


def test_a_profile_that_changed_since_the_sweep_is_refused(synthetic: Callable) -> None:
    run = synthetic(splits=(1,))
    folder = run.write()
    path = run.profiles / "timings" / "slow" / "toy.json"
    write_profile(path, msgspec.structs.replace(read_profile(path, Timing), how="measured again"))
    with pytest.raises(UnlikeConditionsError, match="timing of slow/toy: the run was made with"):
        join([read_run(folder)], run.store)


def test_a_real_run_is_joined_with_the_timing_that_is_found_and_a_note(synthetic: Callable) -> None:
    found = joined(synthetic(emulated=False, speed=1.0, manifest_changes={"timings": {}}))
    assert len(found.comparisons) == 6
    assert any("the run rests on no timing of slow/toy: predicted from" in note for note in found.conditions[0].notes)


@pytest.mark.parametrize(("mss_bytes", "is_said"), [(1448, False), (1428, True)])
def test_segments_that_are_not_as_the_link_says_are_told(synthetic: Callable, mss_bytes: int, is_said: bool) -> None:
    sockets = ({"snd_mss_bytes": mss_bytes}, {"snd_mss_bytes": 65483})  # results come back over no link
    (condition,) = joined(synthetic(cell_changes={"tcp_info": sockets})).conditions
    said = [note for note in condition.notes if note.startswith("segments carried 1428 B over link")]
    assert len(said) == is_said
    assert all("predicted with 1448 B" in note for note in said)
    assert not any("segments" in note for note in condition.notes if note not in said)


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ("toy@slow[0:5]/b8/w-/tcp/f32", "one stage: there is no link"),
        ("toy@slow[0:1]+fast[1:5]/b8/w-/rpc/f32", "backend: got rpc without a calibration"),
        ("toy@slow[0:1]+fast[1:5]/b8/w-/udp/f32", "backend udp: predictions are made for tcp, rpc, memory only"),
        ("toy@slow[0:1]+fast[1:5]/b8/w-/tcp/f16", "wire dtype f16: predictions are made for f32 only"),
        ("toy@slow[0:2]+fast[2:2]+slow[2:5]/b8/w-/tcp/f32", "a stage in the middle is empty"),
    ],
)
def test_what_no_prediction_can_be_made_of_is_listed_and_does_not_stop_the_rest(
    synthetic: Callable, plan: str, said: str
) -> None:
    run = synthetic(repeats=1)
    folder = run.write()
    cell = read_run(folder).cells[1]
    append_cell(folder, msgspec.structs.replace(cell, plan=plan))
    found = join([read_run(folder)], run.store)
    assert len(found.comparisons) == 6
    [refused] = found.unjoined
    assert (refused.status, refused.plan) == ("refused", plan)
    assert said in refused.reason


def test_a_lossy_link_is_refused_with_the_reason(synthetic: Callable) -> None:
    lossy = msgspec.structs.replace(synthetic().links[0], name="lossy", loss=0.01)
    run = synthetic(repeats=1, splits=(1, 2))
    folder = run.write()
    for cell in read_run(folder).cells:
        append_cell(folder, msgspec.structs.replace(cell, link_name="lossy", link_asked=lossy))
    found = join([read_run(folder)], run.store)
    assert [entry.status for entry in found.unjoined] == ["refused", "refused"]
    assert "loss" in found.unjoined[0].reason
    assert found.unjoined[0].remedy.endswith("or leave it out; what was measured is in: hwrun export RUN")


def test_memory_carries_bytes_in_no_time(synthetic: Callable) -> None:
    run = synthetic(repeats=1, splits=(2,), links=(None,))
    folder = run.write()
    [cell] = read_run(folder).cells
    plan = "toy@slow[0:2]+fast[2:5]/b8/w-/memory/f32"
    append_cell(folder, msgspec.structs.replace(cell, plan=plan, link_measured=None))
    found = join([read_run(folder)], run.store)
    condition = next(c for c in found.conditions if c.condition.backend == "memory")
    assert condition.link_origin == "memory"
    [comparison] = condition.comparisons
    assert comparison.predicted.transfers_s == (pytest.approx(0, abs=1e-9),)
    assert comparison.predicted.latency_s == pytest.approx(sum(comparison.predicted.stages_s) + 0.0005)


def test_a_link_in_memory_takes_its_time_and_knows_no_window(synthetic: Callable) -> None:
    slow = synthetic().links[0]
    narrow = msgspec.structs.replace(slow, name="narrow", rate_bps=1e9, wmax_bytes=20_000)
    run = synthetic(repeats=1, splits=(2,), links=(narrow,))
    folder = run.write()
    [cell] = read_run(folder).cells
    append_cell(folder, msgspec.structs.replace(cell, plan="toy@slow[0:2]+fast[2:5]/b8/w-/memory/f32"))
    by_backend = {c.condition.backend: c for c in join([read_run(folder)], run.store).conditions}
    assert by_backend["memory"].link_origin == "asked"
    [wired], [stored] = by_backend["tcp"].comparisons, by_backend["memory"].comparisons
    # 20 kB a round trip of 20 ms are 8 Mbit/s, of 1 Gbit/s.
    assert wired.predicted.transfers_s[0] > 0.1
    assert stored.predicted.transfers_s[0] == pytest.approx(0.02 + 4000 * 4 * 8 * 8 / 1e9, rel=0.06)


def test_serial_workers_are_predicted_serial_with_the_buffers_of_their_records(synthetic: Callable) -> None:
    run = synthetic(repeats=1, splits=(2,))
    folder = run.write()
    [cell] = read_run(folder).cells
    for buffers in ((), (SocketBuffers(send_bytes=1000, receive_bytes=2000),)):
        append_cell(folder, msgspec.structs.replace(cell, workers="serial", buffers=buffers))
    joined_condition = next(
        c for c in join([read_run(folder)], run.store).conditions if c.condition.workers == "serial"
    )
    operation = joined_condition.inputs.operation
    assert (operation.workers, operation.send_buffer_bytes, operation.receive_buffer_bytes) == ("serial", 1000, 2000)
    assert "serial workers" in str(joined_condition.condition)


def test_serial_plans_have_the_buffers_of_their_own_sockets(synthetic: Callable) -> None:
    run = synthetic(repeats=1, splits=(1, 2))
    folder = run.write()
    for cell, size in zip(read_run(folder).cells, (1000, 1_000_000), strict=True):
        buffers = (SocketBuffers(send_bytes=size, receive_bytes=2000),)
        append_cell(folder, msgspec.structs.replace(cell, workers="serial", buffers=buffers))
    joined = join([read_run(folder)], run.store)
    condition = next(c for c in joined.conditions if c.condition.workers == "serial")
    sizes = sorted(c.inputs.operation.send_buffer_bytes or 0 for c in condition.comparisons)
    assert sizes == [1000, 1_000_000]
    for comparison in condition.comparisons:
        assert comparison.inputs.predict([comparison.cuts])[comparison.cuts] == comparison.predicted
    settings = [
        case.setting.operation.send_buffer_bytes
        for case in cases_of(joined)
        if case.setting.operation.workers == "serial"
    ]
    assert sorted(settings) == sizes


def test_a_calibration_changes_predictions_of_its_own_backend_alone(synthetic: Callable) -> None:
    run = synthetic(repeats=1, splits=(1, 2))
    folder = run.write()
    calibration = Calibration(schema_version=2, name="slower", backend="tcp", devices={"slow": DeviceTerms(gamma=1.5)})
    plain = join([read_run(folder)], run.store)
    other = join([read_run(folder)], run.store, {"rpc": msgspec.structs.replace(calibration, backend="rpc")})
    found = join([read_run(folder)], run.store, {"tcp": calibration})
    for before, same, after in zip(plain.comparisons, other.comparisons, found.comparisons, strict=True):
        assert same.predicted == before.predicted
        assert after.predicted.stages_s[0] == pytest.approx(1.5 * before.predicted.stages_s[0])
        assert after.stages[0].error == pytest.approx(0.5)


def test_repeats_of_several_runs_are_pooled_and_keep_their_run(synthetic: Callable) -> None:
    one, two = (
        synthetic(name, manifest_changes={"run_id": name}, factors=lambda s, r, f=f: _slower(f), repeats=1)
        for name, f in (("one", 1.0), ("two", 1.2))
    )
    found = join([read_run(run.write()) for run in (one, two)], one.store)
    assert len(found.comparisons) == 6
    assert [repeat.run_id for repeat in found.comparisons[0].repeats] == ["one", "two"]
    assert found.comparisons[0].latency.error == pytest.approx(1 / 1.1 - 1)
    assert assess(found, 0.02).draws == "runs"


def _slower(factor: float) -> SimpleNamespace:
    return SimpleNamespace(latency=factor, throughput=1.0, transfer=1.0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"speed": 4.0}, "stages: emulated at speed 2 and emulated at speed 4"),
        ({"emulated": False, "speed": 1.0}, "stages: emulated at speed 2 and real"),
        ({"manifest_changes": {"versions": {"python": "3.13"}}}, "version of python: 3.11 and 3.13"),
        ({"manifest_changes": {"host": {"processor": "other"}}}, "host processor: none and other"),
        ({"manifest_changes": {"sysctls": {}}}, "sysctl net.ipv4.tcp_no_metrics_save: 1 and none"),
        ({"manifest_changes": {"workers": ({"name": "one", "threads": 4},)}}, "worker threads: 1 and 4"),
        ({"manifest_changes": {"workers": _FLOATING}}, "cores of a worker: 1 and 2"),
        ({"kind": "remote"}, "testbed: one machine and remote"),
        (
            {"manifest_changes": {"testbed": {"kind": "local", "A.direct-B.congestion_control": "bbr"}}},
            "testbed direct.congestion_control: cubic and bbr",
        ),
        ({}, "got run more than once"),
    ],
)
def test_runs_of_unlike_conditions_are_refused_with_the_difference_named(
    synthetic: Callable, changes: dict[str, Any], said: str
) -> None:
    ends = {"kind": "local", "A.direct.congestion_control": "cubic", "A.relayed.offloads": ""}
    one = synthetic("one", manifest_changes={"run_id": "run", "testbed": ends, "workers": _PINNED})
    named = {"run_id": "run" if not changes else "other"}
    two = synthetic("two", **{**changes, "manifest_changes": {**changes.get("manifest_changes", {}), **named}})
    with pytest.raises(UnlikeConditionsError) as refusal:
        join([read_run(run.write()) for run in (one, two)], one.store)
    assert said in str(refusal.value)


def test_inputs_less_a_term_predict_without_it(synthetic: Callable) -> None:
    comparison = joined(synthetic(repeats=1, splits=(2,))).comparisons[0]
    inputs: Inputs = comparison.inputs
    [predicted] = inputs.less("delay").predict([(2,)]).values()
    # One way 20 ms; the way back is 0 in this link.
    assert comparison.predicted.latency_s - predicted.latency_s == pytest.approx(0.02)
    assert comparison.under(predicted).latency.measured == comparison.latency.measured
    assert comparison.under(predicted).transfers[0].predicted == pytest.approx(predicted.transfers_s[0])


def three_stages(run: object, cuts: tuple[int, int], link: object) -> object:
    """A cell of three devices whose every time is summed here by hand, two hops over `link`."""
    slow, fast = (run.store.timing(device, "toy").at_batch(8)[0] for device in ("slow", "fast"))
    bounds = (0, *cuts, 5)
    stages_s = [sum(times[a:b]) / run.speed for times, (a, b) in zip((slow, fast, slow), pairwise(bounds), strict=True)]
    hops_s = [float(serialisation_s(CUT_ELEMENTS[cut] * 4 * 8, link)) + link.one_way_delay_s for cut in cuts]
    latency_s = sum(stages_s) + sum(hops_s) + 0.0005
    period_s = max(*stages_s, *(hop_s - link.one_way_delay_s for hop_s in hops_s))
    plan = f"toy@slow[0:{cuts[0]}]+fast[{cuts[0]}:{cuts[1]}]+slow[{cuts[1]}:5]/b8/w-/tcp/f32"

    def batch(index: int) -> BatchRecord:
        now = index * period_s
        dispatched, phases = now, []
        now += 0.0005
        for place, stage_s in enumerate(stages_s):
            received = {} if place == 0 else {"receive_start_s": now - 0.001, "receive_end_s": now}
            end = now + stage_s
            phases.append(Phases(compute_start_s=now, compute_end_s=end, send_start_s=end, send_end_s=end, **received))
            now = end + (hops_s[place] if place < 2 else 0.0)
        return BatchRecord(
            index=index, dispatched_s=dispatched, returned_s=dispatched + latency_s, stages=tuple(phases)
        )

    batches = tuple(batch(index) for index in range(6))
    [template] = [run.cell(Mode(name="paced"), link, 1, 0)]
    return msgspec.structs.replace(
        template, plan=plan, later_links_asked=(link,), later_links_measured=(template.link_measured,),
        hosts=("A", "B", "C"), stage_targets_s=tuple(stages_s),
        subruns=(SubRun(name="saturated", batches=batches), SubRun(name="paced", batches=batches)),
    )  # fmt: skip


def test_plans_of_three_devices_are_compared_hop_by_hop(synthetic: Callable) -> None:
    run = synthetic(repeats=1, splits=(1,))
    folder = run.write()
    for cuts in ((1, 3), (2, 4), (1, 5)):
        append_cell(folder, three_stages(run, cuts, run.links[0]))
    found = join([read_run(folder)], run.store)
    condition = next(c for c in found.conditions if len(c.condition.devices) == 3)
    assert [comparison.label for comparison in condition.comparisons] == ["1|3", "1|5", "2|4"]
    for comparison in condition.comparisons:
        assert comparison.latency.error == pytest.approx(0, abs=1e-9)
        assert comparison.throughput.error == pytest.approx(0, abs=1e-9)
        assert [transfer.error for transfer in comparison.transfers] == [pytest.approx(0, abs=1e-9)] * 2
        assert comparison.activation_bytes == sum(comparison.predicted.activation_bytes)
    front = assess(found, 0.02).conditions[-1].front
    assert front is not None
    assert front.agrees


def test_serial_workers_in_memory_are_held_until_their_batch_has_left(synthetic: Callable) -> None:
    run = synthetic(repeats=1, splits=(2,))
    folder = run.write()
    [cell] = read_run(folder).cells
    plan = "toy@slow[0:2]+fast[2:5]/b8/w-/memory/f32"
    append_cell(folder, msgspec.structs.replace(cell, plan=plan, workers="serial"))
    condition = next(c for c in join([read_run(folder)], run.store).conditions if c.condition.workers == "serial")
    # 5 Mbit/s and a round trip of 20 ms: 12.5 kB are under way when a batch has left.
    assert condition.inputs.operation.send_buffer_bytes == 12_500
    [comparison] = condition.comparisons
    [stage_s, _], [wire_s] = comparison.predicted.stages_s, comparison.predicted.wires_s
    # The sender computes and then is held for all of its bytes, 66 of headers for every 1448; overlapped it would send
    # one batch while it computes the next. (A buffer counts payload, what is under way headers too: 2 % are between.)
    held_s, period_s = stage_s + wire_s * (1 + 66 / 1448), 8 / comparison.predicted.throughput_per_s
    assert period_s == pytest.approx(held_s, rel=0.02)
    assert period_s > 1.2 * max(stage_s, wire_s * (1 + 66 / 1448))


def test_what_takes_no_time_has_no_relative_error(synthetic: Callable) -> None:
    run = synthetic(repeats=1, splits=(2,), links=(None,))
    folder = run.write()
    [cell] = read_run(folder).cells
    plan = "toy@slow[0:2]+fast[2:5]/b8/w-/memory/f32"
    append_cell(folder, msgspec.structs.replace(cell, plan=plan, link_measured=None))
    condition = next(c for c in join([read_run(folder)], run.store).conditions if c.condition.backend == "memory")
    assert [transfer.error for transfer in condition.comparisons[0].transfers] == [None]


def test_rpc_is_joined_with_a_calibration_and_its_round_trips_are_in_the_transfer(synthetic: Callable) -> None:
    run = synthetic(repeats=1, splits=(2,))
    folder = run.write()
    [cell] = read_run(folder).cells
    append_cell(folder, msgspec.structs.replace(cell, plan="toy@slow[0:2]+fast[2:5]/b8/w-/rpc/f32"))
    rpc = Calibration(schema_version=2, name="lab", backend="rpc", rpc_round_trips=2.0, rpc_s=0.001)
    found = join([read_run(folder)], run.store, {"rpc": rpc})
    assert not found.unjoined
    by_backend = {c.condition.backend: c.comparisons[0] for c in found.conditions}
    # Two round trips of 20 ms and 1 ms each, before the first byte.
    assert by_backend["rpc"].predicted.transfers_s[0] - by_backend["tcp"].predicted.transfers_s[0] == pytest.approx(
        2 * (0.02 + 0.001)
    )
    assert basis_of(by_backend["rpc"]) == "held out"
    assert basis_of(by_backend["tcp"]) == "uncalibrated"
