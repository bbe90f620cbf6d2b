"""Traces of a link: served at each rate for its part, arriving in order, read with checks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paretosim.errors import BadInputError
from paretosim.simulation.link_trace import LinkTrace, read_link_trace

STEPS = LinkTrace(times_s=(0.0, 2.0, 5.0), rates_bps=(10.0, 0.0, 40.0), delays_s=(1.0, 5.0, 0.5))


def test_a_message_over_changes_is_served_at_each_rate_for_its_part() -> None:
    assert STEPS.sent_s(0.0, 20.0) == 2.0
    assert STEPS.sent_s(1.0, 10.0) == 2.0
    assert STEPS.sent_s(1.0, 30.0) == 5.5  # 10 bits until 2 s, none until 5 s, 20 bits at 40
    assert STEPS.sent_s(3.0, 40.0) == 6.0
    assert STEPS.sent_s(9.0, 0.0) == 9.0


def test_it_has_arrived_when_its_slowest_byte_has() -> None:
    assert STEPS.arrived_s(0.0, 1.0) == 2.0
    assert STEPS.arrived_s(0.0, 2.0) == 3.0  # all left before the change
    assert STEPS.arrived_s(1.0, 6.0) == 10.0  # what leaves just before 5 s is 5 s under way
    assert STEPS.arrived_s(6.0, 7.0) == 7.5
    assert STEPS.arrived_s(2.0, 2.0) == 7.0


@given(st.data())
def test_what_is_sent_by_then_is_the_integral_of_the_rate(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 6))
    gaps = data.draw(st.lists(st.floats(0.1, 3), min_size=count, max_size=count))
    times = (0.0, *np.cumsum(gaps)[:-1].tolist())
    rates = tuple(data.draw(st.lists(st.sampled_from([0.0, 1.0, 7.5, 300.0]), min_size=count - 1, max_size=count - 1)))
    trace = LinkTrace(times_s=times, rates_bps=(*rates, 5.0), delays_s=(0.0,) * count)
    start, bits = data.draw(st.floats(0, 10)), data.draw(st.floats(0, 1000))
    end = trace.sent_s(start, bits)
    edges = [*(t for t in times if start < t < end)]
    spans = zip([start, *edges], [*edges, end], strict=True)
    assert sum(trace.rates_bps[trace.piece(a)] * (b - a) for a, b in spans) == pytest.approx(bits, abs=1e-6)


def test_no_rate_is_above_a_window_a_round_trip() -> None:
    assert STEPS.capped(1, 1.0).rates_bps == (4.0, 0.0, 8 / 1.5)
    still = LinkTrace(times_s=(0.0,), rates_bps=(9.0,), delays_s=(0.0,))
    assert still.capped(1, 0.0) == still


def _read(tmp_path: Path, toy: Any, text: str) -> LinkTrace:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    return read_link_trace(path, toy.link(1e6, 0.25))


def test_numbers_are_si_and_units_are_tcs(tmp_path: Path, toy: Any) -> None:
    expected = LinkTrace(times_s=(0.0, 1.5), rates_bps=(5e6, 1e6), delays_s=(0.2, 0.001))
    assert _read(tmp_path, toy, "time,rate,delay\n0,5mbit,200ms\n1500ms,1e6,0.001\n") == expected
    assert _read(tmp_path, toy, "# a drive\ntime_s, rate_bps, delay_s\n\n0,5e6,0.2\n1.5,1000000,1ms") == expected
    assert _read(tmp_path, toy, "0,10kbit\n2,0\n3,1").delays_s == (0.25, 0.25, 0.25)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "got no row, expected time, rate and delay"),
        ("time,rate,delay\n", "got no row"),
        ("0,1,2,3\n", "line 1: got 4 columns, expected time, rate and delay"),
        ("0\n", "line 1: got 1 columns"),
        ("time,rate,delay\n0,5mbps,0\n", "line 2: rate: got '5mbps', which tc reads as megabytes per second"),
        ("0,fast,0\n", "line 1: rate: got 'fast', expected a number and a unit"),
        ("0,-1,0\n", "line 1: rate: got '-1', expected a finite number of 0 or more"),
        ("0,1,nan\n", "line 1: delay: got 'nan', expected a finite number"),
        ("0,1,0\n0,2,0\n", "line 2: time: got '0', expected more than 0 s of the line before"),
        ("0,1,0\n2,1,0\n1,1,0\n", "line 3: time: got '1', expected more than 2 s"),
        ("5,1,0\n", "line 1: time: got '5' first, expected 0"),
        ("0,1,0\n1,0,0\n", "the last rate is 0, expected more: nothing would ever arrive"),
    ],
)
def test_what_is_no_trace_is_refused_by_line(tmp_path: Path, toy: Any, text: str, said: str) -> None:
    with pytest.raises(BadInputError) as caught:
        _read(tmp_path, toy, text)
    assert said in str(caught.value)
    assert "trace.csv" in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path, toy: Any) -> None:
    with pytest.raises(BadInputError, match=r"--trace: .*gone\.csv cannot be read"):
        read_link_trace(tmp_path / "gone.csv", toy.link())


@pytest.mark.parametrize(
    "fields",
    [{"times_s": ()}, {"times_s": (1.0,)}, {"rates_bps": (0.0,)}, {"delays_s": (-1.0,)}, {"rates_bps": (1.0, 2.0)}],
)
def test_values_are_checked_where_they_are_built(fields: dict[str, Any]) -> None:
    with pytest.raises(BadInputError, match="trace: "):
        LinkTrace(**{"times_s": (0.0,), "rates_bps": (1.0,), "delays_s": (0.0,), **fields})
