"""Timings between and beyond the batch sizes that were profiled."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paretosim.errors import BadInputError
from paretosim.profiles import write_profile
from paretosim.setting_words import split_setting
from paretosim.timing import EXTRAPOLATED_FROM, BatchTiming, BlockTiming, Timing

Command = Callable[..., tuple[int, str, str]]


def timing_of(times: Mapping[int, Sequence[float]], *, device: str = "one", kind: Any = "measured") -> Timing:
    """A timing of model `toy` with these block times by batch size."""
    batches = tuple(
        BatchTiming(
            batch=batch,
            blocks=tuple(BlockTiming(name=f"b{index}", value_s=value) for index, value in enumerate(seconds)),
        )
        for batch, seconds in times.items()
    )
    return Timing(schema_version=1, device=device, model="toy", kind=kind, how="by hand", batches=batches)


def test_between_two_sizes_a_block_is_affine_and_of_the_profiles_kind() -> None:
    timing = timing_of({2: (0.1, 0.4), 8: (0.4, 0.4)}, kind="reconstructed")
    seconds, kind = timing.at_batch(4)
    assert seconds == pytest.approx((0.2, 0.4))
    assert kind == "reconstructed"


def test_only_the_two_neighbours_count() -> None:
    timing = timing_of({8: (9.0,), 1: (0.1,), 4: (0.4,), 2: (0.3,)})  # in any order
    assert timing.at_batch(3)[0] == pytest.approx((0.35,))
    assert timing.at_batch(6)[0] == pytest.approx((4.7,))
    assert timing.at_batch(2) == ((0.3,), "measured")


def test_beyond_the_profiled_sizes_is_refused_with_what_to_do() -> None:
    timing = timing_of({8: (0.8,), 2: (0.3,)})
    for batch in (1, 9):
        with pytest.raises(BadInputError, match=rf"batch: got {batch}, .* batches 2, 8; expected 2 to 8, or --extrapo"):
            timing.at_batch(batch)


def test_one_size_alone_is_scaled_without_asking() -> None:
    timing = timing_of({8: (0.8, 0.4)})
    assert timing.at_batch(16) == ((1.6, 0.8), "extrapolated")
    assert timing.extrapolated_to(16) is timing


def test_on_request_a_block_goes_on_along_the_nearest_two_sizes() -> None:
    timing = timing_of({2: (0.3,), 4: (0.5,), 8: (1.3,)})
    above, below = timing.extrapolated_to(16), timing.extrapolated_to(1)
    # The line of 4 and 8 begins below zero: 1.3 at 8 cannot have come from less than nothing, so it is proportional.
    assert above.at_batch(16) == (pytest.approx((2.6,)), "extrapolated")
    assert below.at_batch(1) == (pytest.approx((0.2,)), "extrapolated")
    assert (above.conditions[EXTRAPOLATED_FROM], below.conditions[EXTRAPOLATED_FROM]) == ("4 and 8", "2 and 4")
    assert "1 of 1 blocks" in above.notes[-1]
    assert "blocks" not in below.notes[-1]


def test_a_block_that_fell_with_the_batch_stays_where_it_was() -> None:
    timing = timing_of({2: (0.3, 1.0), 4: (0.2, 1.5)})
    assert timing.extrapolated_to(100).at_batch(100)[0] == pytest.approx((0.2, 25.5))
    assert timing.extrapolated_to(1).at_batch(1)[0] == pytest.approx((0.3, 0.75))


def test_inside_the_profiled_sizes_nothing_is_extrapolated() -> None:
    timing = timing_of({2: (0.3,), 4: (0.2,)})
    assert all(timing.extrapolated_to(batch) is timing for batch in (2, 3, 4))


block_times = st.floats(min_value=1e-9, max_value=1e3)
sizes = st.lists(st.integers(min_value=1, max_value=512), min_size=2, max_size=5, unique=True)


@given(data=st.data(), batches=sizes)
def test_an_interpolated_time_is_between_its_neighbours(data: st.DataObject, batches: list[int]) -> None:
    timing = timing_of({batch: (data.draw(block_times),) for batch in batches})
    batch = data.draw(st.integers(min_value=min(batches), max_value=max(batches)))
    before, after = (entry.seconds[0] for entry in timing.neighbours(batch))
    assert min(before, after) <= timing.at_batch(batch)[0][0] <= max(before, after)


@given(
    fixed=st.floats(min_value=0, max_value=10), each=st.floats(min_value=1e-3, max_value=10), batches=sizes,
    batch=st.integers(min_value=1, max_value=2000),
)  # fmt: skip
def test_times_that_are_affine_in_the_batch_come_out_exactly(
    fixed: float, each: float, batches: list[int], batch: int
) -> None:
    timing = timing_of({size: (fixed + each * size,) for size in batches})
    found = timing.extrapolated_to(batch).at_batch(batch)[0][0]
    assert found == pytest.approx(fixed + each * batch, rel=1e-9)


@given(data=st.data(), batches=sizes, batch=st.integers(min_value=1, max_value=2000))
def test_beyond_them_no_batch_is_cheaper_than_a_smaller_one_and_no_image_dearer(
    data: st.DataObject, batches: list[int], batch: int
) -> None:
    timing = timing_of({size: (data.draw(block_times),) for size in batches})
    found = timing.extrapolated_to(batch).at_batch(batch)[0][0]
    if batch > max(batches):
        last = timing.at_batch(max(batches))[0][0]
        assert last * (1 - 1e-12) <= found <= last * batch / max(batches) * (1 + 1e-12)
    elif batch < min(batches):
        first = timing.at_batch(min(batches))[0][0]
        assert first * batch / min(batches) * (1 - 1e-12) <= found <= first * (1 + 1e-12)


@pytest.fixture
def profiled(toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Toy profiles of two devices, both timed at batches 2 and 8."""
    monkeypatch.delenv("PARETOSIM_PROFILES", raising=False)
    folder: Path = toy.write_profiles(tmp_path / "profiles")
    for device in ("one", "two"):
        write_profile(
            folder / "timings" / device / "toy.json", timing_of({2: (0.1, 0.1), 8: (0.4, 0.1)}, device=device)
        )
    return folder


def test_the_command_says_between_which_sizes_a_timing_was_read(command: Command, profiled: Path) -> None:
    asked = ("predict", "--profiles", profiled, "--model", "toy", "--devices", "one,two")
    code, out, err = command(*asked, "--batch", 4)
    assert (code, err) == (0, "")
    assert "timing on one: measured (between batches 2 and 8), error unknown" in out


def test_the_command_extrapolates_only_when_told_to(command: Command, profiled: Path) -> None:
    asked = ("predict", "--profiles", profiled, "--model", "toy", "--devices", "one,two", "--batch", 14)
    code, out, err = command(*asked)
    assert (code, out) == (2, "")
    assert "toy on one was profiled at batches 2, 8; expected 2 to 8, or --extrapolate" in err
    assert "or that size profiled as these were, into the same folder: hwrun profile --batch 14" in err
    code, out, _ = command(*asked, "--extrapolate")
    assert code == 0
    assert "timing on one: extrapolated (affine from batches 2 and 8 to 14)" in out


@pytest.mark.parametrize(
    "asked",
    [("map", "--model"), ("plan", "--model"), ("front", "--models"), ("predict", "--objectives=bytes", "--model")],
)
def test_every_command_reads_timings_alike(command: Command, profiled: Path, asked: tuple[str, ...]) -> None:
    options = (*asked, "toy", "--profiles", profiled, "--devices", "one,two")
    assert command(*options, "--batch", 3)[0] == 0
    code, _, err = command(*options, "--batch", 14)
    assert (code, "expected 2 to 8, or --extrapolate" in err) == (2, True)
    assert command(*options, "--batch", 14, "--extrapolate")[0] == 0


def test_a_list_of_batches_extrapolates_only_those_outside(command: Command, profiled: Path) -> None:
    options = ("predict", "--model", "toy", "--profiles", profiled, "--devices", "one,two", "--batch", "2,4,14")
    assert command(*options)[0] == 2
    kinds = json.loads(command(*options, "--extrapolate", "--json")[1])["timing_kinds"]
    assert kinds == {"2": ["measured"] * 2, "4": ["measured"] * 2, "14": ["extrapolated"] * 2}


def test_python_callers_extrapolate_in_the_same_words(profiled: Path) -> None:
    setting = split_setting("toy", ("one", "two"), batch=14, extrapolate=True, profiles=[profiled])
    assert [timing.at_batch(14) for timing in setting.timings] == [(pytest.approx((0.7, 0.1)), "extrapolated")] * 2


def test_a_timing_of_several_sizes_reads_back_as_it_was_written() -> None:
    timing = timing_of({2: (0.1,), 8: (0.4,)}).extrapolated_to(16)
    assert msgspec.json.decode(msgspec.json.encode(timing), type=Timing) == timing
