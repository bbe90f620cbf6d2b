from __future__ import annotations

import math
from typing import Any

import pytest

from hwrun.errors import BadUsageError
from hwrun.shaping.setting import (
    Egress,
    Path,
    Peer,
    Setting,
    egress_of,
    egresses_of,
    handle_major,
    restores_of,
)
from paretosim.link import Link

PEER = Peer("10.0.0.2", (7071,))
WINDOW = 4345  # 6 MiB in segments of 1448 bytes


def setting(**words: Any) -> Setting:
    return Setting(**{"interface": "eth0", "paths": (Path(Egress(rate_bps=5_000_000), (PEER,)),)} | words)


@pytest.mark.parametrize(
    ("text", "address", "ports"),
    [
        ("10.0.0.2", "10.0.0.2", ()),
        ("10.0.0.2:7071", "10.0.0.2", (7071,)),
        ("10.0.0.2:7072+7071", "10.0.0.2", (7071, 7072)),
        ("fd00::0:2", "fd00::2", ()),
        ("[fd00::2]", "fd00::2", ()),
        ("[fd00::2]:7071", "fd00::2", (7071,)),
    ],
)
def test_a_peer_is_read_and_prints_as_one_that_reads_the_same(text: str, address: str, ports: tuple[int, ...]) -> None:
    peer = Peer.parse(text)
    assert (peer.address, peer.ports) == (address, ports)
    assert Peer.parse(str(peer)) == peer


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pi-a", "got 'pi-a', expected an IPv4 or IPv6 address"),
        ("10.0.0.2:", "expected ADDR or ADDR:PORT"),
        ("10.0.0.2:x", "expected ADDR or ADDR:PORT"),
        ("10.0.0.2:0", "got port 0, expected 1 to 65535"),
        ("10.0.0.2:7071+7071", "got a port twice"),
        ("10.0.0.0/24", "expected an IPv4 or IPv6 address"),
    ],
)
def test_what_is_no_peer_is_refused(text: str, said: str) -> None:
    with pytest.raises(BadUsageError, match=said):
        Peer.parse(text)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"rate_bps": 12}, "rate: got 12 bit/s, expected a multiple of 8"),
        ({"rate_bps": 40_000_000_000}, "rate: got 40000000000"),
        ({"delay_s": -0.1}, "delay: got -0.1 s"),
        ({"delay_s": math.nan}, "delay: got nan s"),
        ({"delay_s": 0.1, "jitter_s": 0.2}, "jitter: got 0.2 s, expected 0 up to the delay, 0.1 s"),
        ({"loss": 1.0}, "loss: got 1.0"),
        ({"limit_packets": 0}, "limit: got 0 packets"),
        (
            {"rate_bps": 8_000, "delay_s": 0.1, "limiter": "htb"},
            "limiter htb: got a delay of 100ms, expected a rate alone, such as 5mbit: .* or take limiter netem",
        ),
        ({"limiter": "htb"}, "limiter htb: got no rate, expected a rate alone"),
        ({"delay_s": 0.1, "loss": 0.01, "limiter": "htb"}, "got no rate and a delay of 100ms and a loss of 1%"),
    ],
)
def test_an_egress_that_no_kernel_can_be_told_is_refused(words: dict[str, Any], said: str) -> None:
    with pytest.raises(BadUsageError, match=said):
        Egress(**words)


def test_the_queue_holds_a_window_that_waits_and_what_is_on_its_way() -> None:
    # 5 Mbit/s times 100 ms is 62.5 kB, 42 full frames: fewer than the acknowledgements of a window.
    assert egress_of(5e6, 0.1).limit_packets == 2 * WINDOW
    # 1 Gbit/s times 200 ms is 25 MB, 16513 full frames of 1514 bytes; and jitter may hold 10 ms more.
    assert egress_of(1e9, 0.2).limit_packets == WINDOW + math.ceil(25e6 / 1514)
    assert egress_of(1e9, 0.2, 0.01).limit_packets == WINDOW + math.ceil(26.25e6 / 1514)
    assert egress_of(5e6).limit_packets == WINDOW
    assert egress_of(5e6, limit_bytes=15_140).limit_packets == 10
    assert egress_of(5e6, limit_bytes=15_140, limiter="htb").limit_packets == 10


def test_an_egress_is_rounded_to_what_the_kernel_holds() -> None:
    egress = egress_of(1_000_001, 1 / 3, 1 / 7, 1 / 3)
    assert egress.rate_bps == 1_000_000
    assert (egress.delay_ns, egress.jitter_ns, egress.loss_steps) == (333_333_333, 142_857_143, 1_431_655_765)


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_an_egress_of_no_number_is_refused(value: float) -> None:
    with pytest.raises(BadUsageError, match="expected a finite number"):
        egress_of(value)


def test_a_link_is_shaped_at_both_ends_each_with_its_own_direction() -> None:
    link = Link(
        schema_version=1, name="dsl", rate_bps=1e6, one_way_delay_s=0.03, return_rate_bps=16e6, return_delay_s=0.01,
        jitter_s=0.002, return_loss=0.01, limit_bytes=15_140,
    )  # fmt: skip
    forward, back = egresses_of(link)
    assert (forward.rate_bps, forward.delay_s, forward.jitter_s, forward.loss) == (1_000_000, 0.03, 0.002, 0)
    assert (back.rate_bps, back.delay_s, back.jitter_s) == (16_000_000, 0.01, 0)
    assert back.loss == pytest.approx(0.01, abs=1e-9)


def test_the_order_of_peers_and_ports_says_nothing() -> None:
    one, two = Peer("10.0.0.2", (2, 1)), Peer("10.0.0.10")
    assert Path(Egress(rate_bps=8), (one, two)) == Path(Egress(rate_bps=8), (two, Peer("10.0.0.2", (1, 2))))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"interface": "eth 0"}, "interface: got 'eth 0'"),
        ({"interface": "a-name-far-too-long"}, "interface: got"),
        ({"paths": ()}, "paths: got 0"),
        ({"restores": ("gso", "tso")}, "in this order"),
        ({"except_ports": (22,)}, "every peer names the ports"),
        (
            {"paths": (Path(Egress(rate_bps=8), (PEER,)), Path(Egress(rate_bps=16), (PEER,)))},
            "got it in two paths",
        ),
        ({"paths": (Path(Egress(rate_bps=8), (PEER, Peer("10.0.0.3"))),), "except_ports": (7071,)}, "one or other"),
    ],
)
def test_a_setting_that_contradicts_itself_is_refused(words: dict[str, Any], said: str) -> None:
    with pytest.raises(BadUsageError, match=said):
        setting(**words)


def test_the_roots_handle_says_which_offloads_to_switch_on_again() -> None:
    for restores in ((), ("tso",), ("gso",), ("tso", "gso", "segs")):
        assert restores_of(handle_major(restores)) == restores  # type: ignore[arg-type]  # offloads' names
    assert restores_of(0x8001) is None
    assert restores_of(0x4858) is None
