"""Folds: whole values are left out, every cell once, and repeats of a combination never on both sides."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from hwrun.records import Cell, read_run
from paretosim.errors import BadInputError
from paretosim.link import Link
from paretosim.mode import Mode
from tests.validation.conftest import SLOW_LINK, SyntheticRun
from validation.hold_out import WAYS, HoldOutBy, folds

FAST: Link = msgspec.structs.replace(
    SLOW_LINK, name="100mbit,20ms", rate_bps=100e6, return_rate_bps=100e6
)  # fmt: skip


@pytest.fixture
def cells(synthetic: Callable[..., SyntheticRun]) -> tuple[Cell, ...]:
    run = synthetic(
        links=[SLOW_LINK, FAST, None], modes=[Mode.named("single"), Mode.named("closed")], splits=(1, 2, 3), repeats=2
    )
    return read_run(run.write()).cells


def _names(cells: tuple[Cell, ...], by: HoldOutBy) -> list[str]:
    return [fold.name for fold in folds(cells, by)]


def test_every_cell_is_held_out_once(cells: tuple[Cell, ...]) -> None:
    by: HoldOutBy
    for by in ("bandwidth", "delay", "cells"):
        found = folds(cells, by)
        held_out = [cell.cell_id for fold in found for cell in fold.held_out]
        assert sorted(held_out) == sorted(cell.cell_id for cell in cells)
        for fold in found:
            assert len(fold.fitted) + len(fold.held_out) == len(cells)
            assert not {c.cell_id for c in fold.fitted} & {c.cell_id for c in fold.held_out}


def test_a_value_is_on_one_side(cells: tuple[Cell, ...]) -> None:
    assert _names(cells, "bandwidth") == ["100mbit", "5mbit", "unshaped"]
    assert _names(cells, "delay") == ["20ms", "unshaped"]
    slow = next(fold for fold in folds(cells, "bandwidth") if fold.name == "5mbit")
    assert {cell.link_name for cell in slow.held_out} == {SLOW_LINK.name}
    assert SLOW_LINK.name not in {cell.link_name for cell in slow.fitted}


def test_repeats_of_a_combination_stay_together(cells: tuple[Cell, ...]) -> None:
    def combinations(some: tuple[Cell, ...]) -> set[tuple[str, str, str]]:
        return {(cell.plan, str(cell.mode), cell.link_name) for cell in some}

    for fold in folds(cells, "cells", seed=3):
        assert not combinations(fold.fitted) & combinations(fold.held_out)
    assert folds(cells, "cells", seed=3) == folds(cells, "cells", seed=3) != folds(cells, "cells", seed=4)


def test_what_all_cells_share_cannot_be_left_out(cells: tuple[Cell, ...]) -> None:
    with pytest.raises(BadInputError, match=r"--hold-out model: got toy alone, expected .*: --hold-out cells$"):
        folds(cells, "model")
    with pytest.raises(BadInputError, match=f"got 'batches', expected one of {', '.join(WAYS)}"):
        folds(cells, "batches")  # type: ignore[arg-type]  # what is refused
