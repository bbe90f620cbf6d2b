"""Modes: each has its own parameter and no other."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from paretosim.errors import BadInputError
from paretosim.mode import MODE_NAMES, Arrivals, Mode


def test_parameters_have_the_papers_defaults_where_they_mean_something() -> None:
    assert MODE_NAMES == ("single", "paced", "closed", "burst")
    assert [str(Mode.named(name)) for name in MODE_NAMES] == [
        "single", "paced", "closed(window=4)", "burst(batches=8)",
    ]  # fmt: skip
    assert Mode.named("closed", window=2).window == 2
    assert Mode.named("burst", batches=13).batches == 13


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "paced", "window": 2}, "mode paced: got window 2, expected one in mode closed only"),
        ({"name": "closed"}, "mode closed: got window None"),
        ({"name": "single", "batches": 8}, "mode single: got batches 8, expected them in mode burst only"),
        ({"name": "burst"}, "mode burst: got batches None"),
        ({"name": "closed", "window": 0}, "mode closed: got a window of 0, expected 1 to 1048576"),
        ({"name": "burst", "batches": -1}, "mode burst: got -1"),
        ({"name": "burst", "batches": 10**30}, "expected 1 to 1048576"),
    ],
)
def test_nonsense_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInputError, match=said):
        Mode(**fields)


def test_open_has_a_rate_and_the_other_modes_read_and_print_as_before() -> None:
    mode = Mode.named("open", arrivals=Arrivals(rate_per_s=2.5, process="poisson"))
    assert str(mode) == "open(rate=2.5/s, poisson)"
    assert msgspec.json.decode(msgspec.json.encode(mode), type=Mode) == mode
    # Records hash the encoding: a field more would make a resumed sweep measure everything again.
    assert msgspec.json.encode(Mode.named("closed")) == b'{"name":"closed","window":4,"batches":null}'
    with pytest.raises(BadInputError, match="mode open: got no rate, expected one in mode open"):
        Mode(name="open")
    with pytest.raises(BadInputError, match="mode paced: got a rate, expected one in mode open, and there only"):
        Mode.named("paced", arrivals=Arrivals(rate_per_s=1.0))
    with pytest.raises(BadInputError, match="rate: got inf batches/s"):
        Arrivals(rate_per_s=float("inf"))
