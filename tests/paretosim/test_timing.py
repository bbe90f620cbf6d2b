"""Timings: medians, scaling to another batch, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from paretosim.errors import BadInputError
from paretosim.timing import BlockTiming, SpanTiming, TimingError

NAN, INF = float("nan"), float("inf")


def test_a_block_takes_the_median_of_its_repeats() -> None:
    assert BlockTiming(name="b", samples_s=(3.0, 1.0, 2.0)).seconds == 2.0
    assert BlockTiming(name="b", value_s=0.5).seconds == 0.5
    assert SpanTiming(first=0, last=2, samples_s=(1.0, 4.0)).seconds == 2.5


def test_the_profiled_batch_keeps_its_kind(toy: Any) -> None:
    assert toy.timing((0.1, 0.3), kind="reconstructed").at_batch(8) == ((0.1, 0.3), "reconstructed")


def test_another_batch_is_scaled_linearly_and_extrapolated(toy: Any) -> None:
    seconds, kind = toy.timing((0.1, 0.3)).at_batch(4)
    assert seconds == (0.05, 0.15)
    assert kind == "extrapolated"


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda toy: BlockTiming(name="b"), "either samples_s or value_s, and not both"),
        (lambda toy: BlockTiming(name="b", value_s=1.0, samples_s=(1.0,)), "and not both"),
        (lambda toy: BlockTiming(name="b", value_s=-1e-9), "block 'b': got -1e-09 s, expected a finite time of 0"),
        (lambda toy: BlockTiming(name="b", samples_s=(1.0, NAN)), "got nan s"),
        (lambda toy: BlockTiming(name="b", value_s=INF), "got inf s"),
        (lambda toy: SpanTiming(first=2, last=2, samples_s=(1.0,)), r"span \[2, 2\): expected 0 ≤ first < last"),
        (lambda toy: SpanTiming(first=0, last=2, samples_s=()), "samples_s: got none"),
        (lambda toy: SpanTiming(first=0, last=2, samples_s=(-1.0,)), "got -1.0 s"),
        (lambda toy: TimingError(relative=NAN, meaning="m"), "error.relative: got nan"),
        (lambda toy: TimingError(relative=-0.1, meaning="m"), "error.relative: got -0.1"),
        (lambda toy: toy.timing((0.1,), batch=0), "batch: got 0"),
        (lambda toy: toy.timing(()), "blocks: got none"),
        (lambda toy: toy.timing((0.0, 0.0)), "all take 0 s, expected one or more above zero"),
        (lambda toy: toy.timing((0.1,)).at_batch(0), "batch: got 0"),
        (lambda toy: msgspec.structs.replace(toy.timing((0.1,)), batches=()), "batches: got none"),
        (lambda toy: msgspec.structs.replace(toy.timing((0.1,)), schema_version=0), "schema_version: got 0"),
        (lambda toy: msgspec.structs.replace(toy.timing((0.1,)), batches=toy.timing((0.1,)).batches * 2), "each once"),
        (
            lambda toy: msgspec.structs.replace(
                toy.timing((0.1,)), batches=(*toy.timing((0.1,)).batches, *toy.timing((0.1, 0.2), batch=1).batches)
            ),
            "block names at batch 1 differ from batch 8",
        ),
        (
            lambda toy: msgspec.structs.replace(
                toy.timing((0.1,)).batches[0], spans=(SpanTiming(first=0, last=2, samples_s=(1.0,)),)
            ),
            "expected an end of 1 or less",
        ),
    ],
)
def test_nonsense_is_refused(toy: Any, build: Callable[[Any], object], said: str) -> None:
    with pytest.raises(BadInputError, match=said):
        build(toy)
