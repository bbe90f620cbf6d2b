"""Whole sweeps in memory: any number of stages on any hosts, both kinds of workers, and times that are the model's."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from itertools import pairwise
from pathlib import Path

import pytest

from hwrun.cli import main
from hwrun.machine.steady import steady_environment
from hwrun.orchestrator import Pipeline
from hwrun.records import Cell, Run, read_run
from hwrun.sweeps import bench
from paretosim.profiles import ProfileStore

BLOCK_S = 0.002
CUTS = ProfileStore().model("mobilenet_v2").cut_bytes()
LINK_S, DELAY_S = 0.050, 0.030
# At this rate a batch of two at cut 14 takes LINK_S, its headers included.
BYTES = 2 * CUTS[14]
RATE_BPS = (BYTES + 66 * -(-BYTES // 1448)) * 8 / LINK_S
# What threads of one busy process may add to a batch.
NOISE_S = 0.030
# What a late first completion may take from a mean interval.
LATE_S = 0.005
Swept = Callable[..., Run]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swept]:
    """Runs a sweep in memory of devices whose blocks take BLOCK_S each."""
    folder = tmp_path_factory.mktemp("memory")
    timings = folder / "timings" / "toy"
    timings.mkdir(parents=True)
    rows = "".join(f"{block.name},{BLOCK_S}\n" for block in ProfileStore().model("mobilenet_v2").blocks)
    (timings / "mobilenet_v2.csv").write_text(f"# batch: 2\nblock,seconds\n{rows}")
    (folder / "links").mkdir()
    (folder / "links" / "slow.json").write_text(
        f'{{"schema_version": 1, "name": "slow", "rate_bps": {RATE_BPS}, "one_way_delay_s": {DELAY_S},'
        f' "return_rate_bps": {RATE_BPS}, "return_delay_s": {DELAY_S}}}'
    )

    def sweep(*options: str) -> Run:
        run = Path(tmp_path_factory.mktemp("run")) / "run"
        out, err = io.TextIOWrapper(io.BytesIO()), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = main([
                "sweep", "--backend", "memory", "--batch", "2", "--emulate", "toy", "--repeats", "1",
                "--batches-per-cell", "6", "--profiles", str(folder), "-o", str(run), *options,
            ])  # fmt: skip
        assert code == 0, err.getvalue()
        return read_run(run)

    with pytest.MonkeyPatch.context() as patch:
        for name, value in steady_environment(1).items():
            patch.setenv(name, value)
        yield sweep


def plan(*ends: int) -> str:
    stages = "+".join(f"toy[{first}:{last}]" for first, last in zip((0, *ends), ends, strict=False))
    return f"mobilenet_v2@{stages}/b2/w-/memory/f32"


def only(run: Run) -> Cell:
    (cell,) = run.cells
    assert cell.status == "done", cell.reason
    assert cell.output_check is not None
    assert cell.output_check.bitwise_equal
    return cell


@pytest.mark.timed
def test_a_batch_through_three_stages_takes_every_stage_link_and_delay_once(swept: Swept) -> None:
    cell = only(swept("--plan", plan(10, 14, 21), "--link", "unshaped+slow", "--mode", "single"))
    assert cell.hosts == ("A", "B", "C")
    expected_s = 21 * BLOCK_S + LINK_S + DELAY_S
    assert expected_s <= cell.latency_s() <= expected_s + NOISE_S
    assert [measured and measured.medium for measured in cell.links_measured] == ["memory", "memory"]
    slow = cell.links_measured[1]
    assert slow is not None
    assert slow.goodput_bps == pytest.approx(RATE_BPS * 1448 / 1514, rel=0.1)
    assert min(slow.rtt_samples_s) == pytest.approx(2 * DELAY_S, abs=NOISE_S)
    for batch in cell.subruns[0].batches:
        assert len(batch.stages) == 3
        for phases, blocks in zip(batch.stages, (10, 4, 7), strict=True):
            assert phases.compute_end_s - phases.compute_start_s >= blocks * BLOCK_S


@pytest.mark.timed
def test_the_slowest_station_sets_the_pace_of_a_full_line(swept: Swept) -> None:
    cell = only(swept("--plan", plan(14, 14, 21), "--link", "slow+unshaped", "--mode", "closed", "--window", "6"))
    assert LINK_S - LATE_S <= cell.period_s() <= LINK_S + NOISE_S


@pytest.mark.timed
def test_stages_on_one_host_take_turns(swept: Swept) -> None:
    apart = only(swept("--plan", plan(10, 21), "--mode", "closed"))
    together = only(swept("--plan", plan(10, 21), "--mode", "closed", "--hosts", "A,A"))
    assert apart.period_s() == pytest.approx(11 * BLOCK_S, abs=NOISE_S / 2)
    assert 21 * BLOCK_S - LATE_S <= together.period_s() <= 21 * BLOCK_S + NOISE_S
    assert together.links_measured == (None,)
    (run,) = together.subruns
    computing = sorted(
        (stage.compute_start_s, stage.compute_end_s) for batch in (*run.warmup, *run.batches) for stage in batch.stages
    )
    assert len(computing) == 2 * (len(run.warmup) + len(run.batches))
    assert all(end_s <= start_s for (_, end_s), (start_s, _) in pairwise(computing))


@pytest.mark.timed
def test_serial_workers_neither_receive_nor_send_while_they_compute(swept: Swept) -> None:
    options = ("--plan", plan(14, 21), "--link", "slow", "--mode", "closed", "--serial", "too")
    overlapped, serial = sorted(swept(*options).cells, key=lambda cell: cell.workers)
    assert (overlapped.workers, serial.workers) == ("overlapped", "serial")
    assert (overlapped.queue_depth, serial.queue_depth) == (2, None)
    # The first worker computes and then is held until the batch has left.
    assert 14 * BLOCK_S + LINK_S - LATE_S <= serial.period_s() <= 14 * BLOCK_S + LINK_S + NOISE_S
    assert overlapped.period_s() < serial.period_s()
    for batch in serial.subruns[0].batches:
        first, second = batch.stages
        assert first.send_end_s - first.compute_end_s >= LINK_S
        assert second.receive_end_s is not None
        assert second.receive_end_s <= second.compute_start_s


@pytest.mark.parametrize(("sides", "crossed"), [(("--sink", "first"), (10, 21)), (("--source", "sink"), (0, 10))])
@pytest.mark.timed
def test_the_way_back_crosses_its_own_link(swept: Swept, sides: tuple[str, str], crossed: tuple[int, int]) -> None:
    cell = only(swept("--plan", plan(10, 21), "--link", "slow", "--mode", "single", *sides))
    waits_s = sum(2 * CUTS[cut] * 8 / RATE_BPS for cut in crossed) + 2 * DELAY_S
    assert waits_s <= cell.latency_s() - 21 * BLOCK_S <= 1.06 * waits_s + NOISE_S


@pytest.mark.timed
def test_with_the_sink_first_empty_stages_at_the_end_take_no_part(swept: Swept) -> None:
    cell = only(swept("--plan", plan(21, 21, 21), "--link", "slow", "--mode", "single", "--sink", "first"))
    assert cell.stage_targets_s == (pytest.approx(21 * BLOCK_S),)
    assert cell.latency_s() <= 21 * BLOCK_S + NOISE_S


def test_the_manifest_says_that_there_was_no_network(swept: Swept) -> None:
    run = swept("--plan", plan(10, 21), "--mode", "single")
    assert run.manifest.testbed["kind"] == "memory"
    assert len(run.manifest.workers) == 2


def test_a_sweep_with_nothing_left_to_do_still_removes_what_a_killed_one_left(
    swept: Swept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = swept("--emulate", "toy,toy", "--splits", "10", "--mode", "single")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "hwrun-left").mkdir()
    (tmp_path / "hwrun-left" / "lock").touch()
    assert main(["sweep", "--resume", str(run.path)]) == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("asked", "first_s", "rest_s"), [("2s", 66.0, 60.0), ("30s", 150.0, 90.0)])
def test_the_first_batch_has_a_minute_more_than_the_others_which_have_three_times_what_was_asked(
    swept: Swept, monkeypatch: pytest.MonkeyPatch, asked: str, first_s: float, rest_s: float
) -> None:
    given: list[float] = []

    class NotingPipeline(Pipeline):
        def renew(self, limit_s: float) -> None:
            given.append(limit_s)
            super().renew(limit_s)

    monkeypatch.setattr(bench, "Pipeline", NotingPipeline)
    only(swept("--plan", plan(14, 21), "--mode", "single", "--max-cell-time", asked))
    assert given == [first_s, rest_s]
