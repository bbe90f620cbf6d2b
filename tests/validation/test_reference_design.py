"""The reference design: drawn by seed, balanced, bounded; and runs kept compact say what they said."""

from __future__ import annotations

import dataclasses
import functools
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from hwrun.records import append_cell, read_run
from paretosim.errors import BadInputError
from paretosim.mode import Mode
from paretosim.plan import Plan
from paretosim.profiles import ProfileStore
from tests.validation.conftest import SLOW_LINK, SyntheticRun
from validation.assessment import assess
from validation.cli import main
from validation.compaction import compact
from validation.join import join
from validation.reference_design import COMPUTED, EMULATED, MODELS, Design, Sweep, draw, total_s
from validation.report.as_json import as_json


@pytest.fixture(scope="module")
def store() -> ProfileStore:
    return ProfileStore()


@pytest.fixture(scope="module")
def drawn(store: ProfileStore) -> Callable[[int], tuple[Sweep, ...]]:
    """The emulated design of a seed, drawn once each: it takes a second."""
    return functools.cache(lambda seed: draw(EMULATED, store, seed=seed))


def test_the_design_keeps_within_its_bounds(drawn: Callable[[int], tuple[Sweep, ...]]) -> None:
    sweeps = drawn(0)
    assert sum(sweep.cells for sweep in sweeps) <= EMULATED.most_cells
    assert total_s(sweeps) < 2 * 3600
    assert len({sweep.name for sweep in sweeps}) == len(sweeps)
    assert {sweep.link for sweep in sweeps} == set(EMULATED.links)
    assert {sweep.devices for sweep in sweeps} == set(EMULATED.pairs)
    assert {plan.backend for sweep in sweeps for plan in sweep.plans} == set(EMULATED.backends)
    for sweep in sweeps:
        assert len(set(sweep.plans)) == len(sweep.plans)
        splits = Counter(plan.model for plan in sweep.plans)
        assert len(splits) == 2
        assert min(splits.values()) >= 2


def test_models_take_turns(drawn: Callable[[int], tuple[Sweep, ...]]) -> None:
    sweeps = drawn(1)
    counts = Counter(model for sweep in sweeps for model in {plan.model for plan in sweep.plans})
    assert set(counts) == set(MODELS)
    # VGG16 sends 400 kB at its best, and so is too long for the slow links.
    assert min(counts[model] for model in MODELS if model != "vgg16") >= max(counts.values()) - 3
    assert counts["vgg16"] >= 2


def test_the_seed_draws(store: ProfileStore, drawn: Callable[[int], tuple[Sweep, ...]]) -> None:
    assert draw(EMULATED, store, seed=1) == drawn(1) != drawn(0)


def test_slow_links_meet_small_activations(store: ProfileStore, drawn: Callable[[int], tuple[Sweep, ...]]) -> None:
    largest: dict[str, int] = {}
    for sweep in drawn(0):
        for plan in sweep.plans:
            size = store.model(plan.model).cut_bytes()[plan.split] * plan.batch
            largest[sweep.link] = max(largest.get(sweep.link, 0), size)
    # In three seconds at 5 Mbit/s go 1.9 MB at most, and a cell sends its activation several times.
    assert largest["5mbit,200ms"] < 1e6 < largest["unshaped"]


def test_nothing_short_enough_is_refused(store: ProfileStore) -> None:
    hopeless = dataclasses.replace(EMULATED, longest_cell_s=1e-6)
    with pytest.raises(BadInputError, match="design emulated: no plan has cells of 1e-06 s or less"):
        draw(hopeless, store, seed=0)


def test_the_command_prints_what_it_would_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reference", "--dry-run", "--only", "5mbit"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 5
    assert printed[-1].startswith("4 sweeps, ")
    assert "emulated at 50 times their speed, about " in printed[-1]
    assert main(["reference", "--dry-run", "--only", "carrier-pigeon"]) == 2
    assert "--only: no sweep has carrier-pigeon in its name" in capsys.readouterr().err


def test_a_compact_run_is_reported_as_it_was(synthetic: Callable[..., SyntheticRun], tmp_path: Path) -> None:
    run = synthetic(modes=[Mode.named("single"), Mode.named("closed"), Mode.named("burst")], links=[SLOW_LINK, None])
    whole = read_run(run.write())
    kept = read_run(compact(whole, tmp_path / "kept"))
    assert [cell.cell_id for cell in kept.cells] == [cell.cell_id for cell in whole.cells]
    for before, after in zip(whole.cells, kept.cells, strict=True):
        assert after.latency_s() == pytest.approx(before.latency_s(), abs=2e-6)
        assert after.throughput_per_s() == pytest.approx(before.throughput_per_s(), rel=1e-4)
    assert as_json(assess(join([kept], run.store), 0.02))  # a report is made of it
    size = sum(path.stat().st_size for path in (tmp_path / "kept").glob("*.xz"))
    assert size < (whole.path / "cells.jsonl").stat().st_size / 10
    with pytest.raises(BadInputError, match="holds a run already"):
        compact(whole, tmp_path / "kept")


def test_a_compact_run_that_went_on_holds_both_parts(synthetic: Callable[..., SyntheticRun], tmp_path: Path) -> None:
    whole = read_run(synthetic().write())
    folder = compact(msgspec.structs.replace(whole, cells=whole.cells[:-1]), tmp_path / "kept")
    append_cell(folder, whole.cells[-1])
    assert [cell.cell_id for cell in read_run(folder).cells] == [cell.cell_id for cell in whole.cells]


def test_what_is_no_xz_is_named(synthetic: Callable[..., SyntheticRun], tmp_path: Path) -> None:
    folder = compact(read_run(synthetic().write()), tmp_path / "kept")
    (folder / "cells.jsonl.xz").write_bytes(b"cells")
    from hwrun.errors import RecordError

    with pytest.raises(RecordError, match=r"cells.jsonl.xz: .*expected lines compressed with xz"):
        read_run(folder)


def test_an_interrupted_copy_holds_no_run_yet_and_is_made_anew(
    synthetic: Callable[..., SyntheticRun], tmp_path: Path
) -> None:
    whole = read_run(synthetic().write())
    folder = compact(whole, tmp_path / "kept")
    (folder / "manifest.json").unlink()  # which is written last
    (folder / "cells.jsonl.xz").write_bytes(b"half")
    assert len(read_run(compact(whole, folder)).cells) == len(whole.cells)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--repeats", "2"), "cells 75 and not 72"),
        (("--seed", "7"), "--seed 0 and not 7"),
        (("--most", "1"), "--plan "),
        (("--design", "computed"), ""),
    ],
)
@pytest.mark.parametrize("place", ["-o", "--keep"])
def test_a_sweep_of_another_design_is_not_taken_for_this_one(
    place: str, options: tuple[str, str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = REFERENCE if options[0] != "--design" else tmp_path
    only = "emulated-rpi4b+rpi4b-tcp-unshaped"
    if options[0] == "--design":
        only = "computed-core0+core1-tcp-unshaped"
        shutil.copytree(REFERENCE / "emulated-rpi4b+rpi4b-tcp-unshaped", tmp_path / only)
        said = "--speed 50 and not none"
    other = [] if place == "-o" else ["-o", str(tmp_path / "runs")]
    assert main(["reference", "--only", only, *options, *other, place, str(folder)]) == 2
    error = capsys.readouterr().err
    assert f"{place}: {folder / only} holds a sweep with " in error
    assert said in error
    assert f"give another folder with {place}" in error


REFERENCE = Path(__file__).parents[2] / "validation" / "reference"


# What the cells of the computed set were predicted by: this machine's cores, as they were right before.
PROFILED = REFERENCE / "computed-profiles"


@pytest.mark.parametrize("design", [EMULATED, COMPUTED], ids=lambda design: design.name)
def test_the_kept_data_set_holds_every_cell_that_is_drawn_measured_and_marked_as_emulated_or_not(
    design: Design, store: ProfileStore, drawn: Callable[[int], tuple[Sweep, ...]]
) -> None:
    sweeps = drawn(0) if design is EMULATED else draw(design, store, seed=0)
    kept = {path.name for path in REFERENCE.glob(f"{design.name}-*") if path != PROFILED}
    assert kept == {sweep.name for sweep in sweeps}
    for sweep in sweeps:
        run = read_run(REFERENCE / sweep.name)
        cells = run.latest_cells()
        assert len(cells) == sweep.cells == run.manifest.cells_planned
        plans = {msgspec.structs.replace(Plan.parse(cell.plan), window=None) for cell in cells}
        assert plans == set(sweep.plans)
        assert all(cell.status == "done" for cell in cells)
        assert {cell.emulated for cell in cells} == {design.speed is not None}
        assert all(cell.output_check is not None and cell.output_check.bitwise_equal for cell in cells)
        assert run.dropped_lines == 0
        assert sweep.differences(run.manifest, design, seed=0) == ()


def test_the_computed_set_is_predicted_by_the_profiles_kept_beside_it(store: ProfileStore) -> None:
    runs = [read_run(REFERENCE / sweep.name) for sweep in draw(COMPUTED, store, seed=0)]
    joined = join(runs, ProfileStore([PROFILED]))
    assert joined.conditions
    assert not joined.unjoined


def test_a_computed_design_names_the_cores_and_is_drawn_without_their_profiles(store: ProfileStore) -> None:
    for sweep in draw(COMPUTED, store, seed=0):
        assert sweep.devices == COMPUTED.measured_as
        assert "core0" not in store.names("devices")
        assert all("@core0[" in str(plan) and "+core1[" in str(plan) for plan in sweep.plans)
        assert "--emulate" not in sweep.options(COMPUTED, seed=0)
