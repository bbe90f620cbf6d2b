from __future__ import annotations

from typing import Any

import pytest

from hwrun.probing.link_check import missed, most_held
from hwrun.records import EchoSample, LinkMeasured
from paretosim.link import Link

GOODPUT = 5e6 * 1448 / 1514  # what headers leave of 5 Mbit/s


def link(**words: Any) -> Link:
    fields: dict[str, Any] = {
        "schema_version": 1, "name": "x", "rate_bps": 5e6, "one_way_delay_s": 0.2, "return_rate_bps": 5e6,
        "return_delay_s": 0.0,
    }  # fmt: skip
    return Link(**fields | words)


def probe(goodput_bps: float | None = GOODPUT, rtt_s: float = 0.2008, **words: Any) -> LinkMeasured:
    fields = {"medium": "relay", "rtt_samples_s": (rtt_s,) * 5, "goodput_bps": goodput_bps, "probe_bytes": 1_250_000}
    return LinkMeasured(**fields | words)


def test_what_the_relay_gives_holds() -> None:
    assert missed(link(), probe()) is None
    assert missed(link(), probe(GOODPUT * 1.0032)) is None


@pytest.mark.parametrize("factor", [0.949, 1.051])
def test_a_rate_that_misses_either_way_is_told_with_both_numbers(factor: float) -> None:
    said = missed(link(), probe(GOODPUT * factor))
    assert said is not None
    assert said.startswith(f"goodput is {GOODPUT * factor / 1e6:.3g}"[:14])
    assert "that a rate of 5mbit leaves" in said
    assert missed(link(), probe(GOODPUT * factor), tolerance=0.06) is None


@pytest.mark.parametrize("rtt_s", [0.189, 0.2140])
def test_a_round_trip_that_misses_either_way_is_told(rtt_s: float) -> None:
    said = missed(link(), probe(rtt_s=rtt_s))
    # 5 % of 200 ms, 3 ms for waking, and 150 bytes each way at 5 Mbit/s, 0.48 ms.
    assert said is not None
    assert "(median of 5), and 200ms was asked for (190ms to 213.5ms would do)" in said
    assert missed(link(), probe(rtt_s=rtt_s), tolerance=0.1) is None


def test_unshaped_though_asked_is_missed_in_both() -> None:
    said = missed(link(), probe(9e8, 0.0003))
    assert said is not None
    assert "goodput is 900mbit, +18720.4% of the 4.78" in said
    assert "; round trips take 300us" in said


def test_a_short_round_trip_is_allowed_what_waking_and_its_own_frames_take() -> None:
    lan = link(rate_bps=1e6, return_rate_bps=1e6, one_way_delay_s=0.0)
    goodput = 1e6 * 1448 / 1514
    assert missed(lan, probe(goodput, 0.0053)) is None  # 3 ms, and 2.4 ms for two frames
    assert missed(lan, probe(goodput, 0.0055)) is not None


def test_a_window_that_is_less_than_the_product_may_slow_tcp_down() -> None:
    long = link(rate_bps=1e9, return_rate_bps=1e9)  # 25 MB on their way, and a window of 3 MiB
    window = 8 * 3 * 2**20 / 0.2
    assert missed(long, probe(window, probe_bytes=2**25)) is None
    assert missed(long, probe(1.1e9, probe_bytes=2**25)) is not None


def test_a_transfer_too_short_for_its_window_to_open_tells_nothing_of_a_slow_link() -> None:
    # 5 Mbit/s times 200 ms is 125 kB.
    assert missed(link(), probe(GOODPUT / 2, probe_bytes=999_999)) is None
    assert missed(link(), probe(GOODPUT / 2, probe_bytes=1_000_000)) is not None
    assert missed(link(), probe(GOODPUT * 1.1, probe_bytes=999_999)) is not None


@pytest.mark.parametrize("words", [{"loss": 0.01}, {"limit_bytes": 125_000}])
def test_where_segments_may_be_lost_goodput_tells_nothing_and_no_message_may_be_too_fast(words: dict[str, Any]) -> None:
    # 262144 bytes take 438.6 ms at 5 Mbit/s with headers, beside a round trip of 200.8 ms.
    def echoed(round_trip_s: float) -> tuple[EchoSample, ...]:
        return (
            EchoSample(size_bytes=64, round_trips_s=(0.2009,)),  # too short to tell anything
            EchoSample(size_bytes=262_144, round_trips_s=(round_trip_s, 3.0)),
        )

    asked = link(**words)
    for goodput_bps in (GOODPUT / 10, GOODPUT * 1.3):
        assert missed(asked, probe(goodput_bps)) is None
        assert missed(asked, probe(goodput_bps, echo=echoed(0.2008 + 0.4386))) is None
        assert missed(asked, probe(goodput_bps, echo=echoed(2.0))) is None  # lost and sent again
        said = missed(asked, probe(goodput_bps, echo=echoed(0.2008 + 0.4386 / 1.1)))
        assert said is not None
        assert "+10.0% of the 4.78203mbit" in said


def test_jitter_may_shift_a_round_trip_by_its_size() -> None:
    assert missed(link(jitter_s=0.05), probe(rtt_s=0.25)) is None
    assert missed(link(jitter_s=0.05), probe(rtt_s=0.27)) is not None


def test_a_probe_that_could_not_tell_is_no_proof() -> None:
    assert missed(link(), probe(None)) == "the probe could not tell the rate"
    assert missed(link(), probe(rtt_samples_s=())) == "the probe has no round trip"


def test_a_rate_that_no_probe_held_is_told_with_the_most_that_one_did_rounded_down() -> None:
    probes = [probe(GOODPUT * share) for share in (0.7, 0.879, 0.5)]
    assert most_held(link(), probes) == "; the best of 3 probes held a rate of 4.3mbit"
    assert missed(link(rate_bps=4.3e6), probe(GOODPUT * 0.879)) is None
    assert most_held(link(), [*probes, probe(GOODPUT)]) == ""
    assert most_held(link(loss=0.01), probes) == ""  # there goodput says how TCP fared
    assert most_held(link(), [probe(None)]) == ""
