from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwrun.errors import BadUsageError
from hwrun.shaping.claims import NotOursError, claims_of, setting_of
from hwrun.shaping.setting import LOSS_STEPS, Egress, Path, Peer, Setting, loss_of
from hwrun.shaping.tc_lines import lines, parse, removal_lines

DURESS = Setting(
    interface="eth0",
    paths=(Path(Egress(rate_bps=5_000_000, delay_s=0.2, limit_packets=8690), (Peer("10.0.0.2", (7071,)),)),),
    restores=("tso", "gso", "segs"),
)


def test_the_papers_link_is_these_lines() -> None:
    assert lines(DURESS) == (
        "ethtool -K eth0 tso off gso off",
        "ip link set dev eth0 gso_max_segs 1",
        "tc qdisc add dev eth0 root handle 4857: htb default 0",
        "tc class add dev eth0 parent 4857: classid 4857:1 htb rate 32gbit burst 1000000b cburst 1000000b quantum 1514",
        "tc qdisc add dev eth0 parent 4857:1 handle 4867: netem limit 8690 delay 200ms rate 5mbit",
        "tc filter add dev eth0 parent 4857: protocol ip prio 3 u32 match ip dst 10.0.0.2/32"
        " match ip protocol 6 0xff match ip dport 7071 0xffff flowid 4857:1",
        "tc filter add dev eth0 parent 4857: protocol ip prio 3 u32 match ip dst 10.0.0.2/32"
        " match ip protocol 6 0xff match ip sport 7071 0xffff flowid 4857:1",
    )
    assert removal_lines(DURESS) == (
        "tc qdisc del dev eth0 root",
        "ethtool -K eth0 tso on gso on",
        "ip link set dev eth0 gso_max_segs 65535",
    )


def test_a_rate_alone_by_htb_needs_no_netem_and_has_little_free_credit() -> None:
    egress = Egress(rate_bps=100_000_000, limit_packets=100, limiter="htb")
    setting = Setting(interface="eth0", paths=(Path(egress, (Peer("fd00::2"),)),), except_ports=(22,))
    assert lines(setting)[3:] == (
        "tc class add dev eth0 parent 4850: classid 4850:1 htb rate 100mbit burst 5000b cburst 5000b quantum 1514",
        "tc qdisc add dev eth0 parent 4850:1 handle 4860: pfifo limit 100",
        "tc filter add dev eth0 parent 4850: protocol ipv6 prio 2 u32 match ip6 dst fd00::2/128"
        " match ip6 protocol 6 0xff match ip6 dport 22 0xffff flowid 4850:0",
        "tc filter add dev eth0 parent 4850: protocol ipv6 prio 2 u32 match ip6 dst fd00::2/128"
        " match ip6 protocol 6 0xff match ip6 sport 22 0xffff flowid 4850:0",
        "tc filter add dev eth0 parent 4850: protocol ipv6 prio 4 u32 match ip6 dst fd00::2/128 flowid 4850:1",
    )
    assert removal_lines(setting) == ("tc qdisc del dev eth0 root",)


def test_exceptions_come_before_peers_and_ports_before_whole_addresses() -> None:
    slow, fast = Egress(rate_bps=8_000), Egress(rate_bps=80_000)
    setting = Setting(
        interface="eth0",
        paths=(Path(slow, (Peer("10.0.0.2"),)), Path(fast, (Peer("10.0.0.2", (7071,)),))),
        except_ports=(22,),
    )
    assert [(claim.port, claim.target) for claim in claims_of(setting)] == [
        (22, 0), (22, 0), (7071, 2), (7071, 2), (None, 1)
    ]  # fmt: skip


times_s = st.integers(0, 10**11).map(lambda time_ns: time_ns / 1e9)


@st.composite
def egresses(draw: st.DrawFn) -> Egress:
    rate_bps = draw(st.integers(1, 3_000_000_000)) * 8
    limit = draw(st.integers(1, 10**6))
    if draw(st.booleans()):
        return Egress(rate_bps=rate_bps, limit_packets=limit, limiter="htb")
    one, two = sorted((draw(times_s), draw(times_s)))
    return Egress(
        rate_bps=draw(st.sampled_from([None, rate_bps])),
        delay_s=two,
        jitter_s=one,
        loss=loss_of(draw(st.integers(0, LOSS_STEPS - 1))),
        limit_packets=limit,
    )


ports = st.lists(st.integers(1, 65535), max_size=3, unique=True)


@st.composite
def settings(draw: st.DrawFn) -> Setting:
    addresses = draw(st.lists(st.ip_addresses(), min_size=1, max_size=4, unique=True))
    paths = tuple(
        Path(draw(egresses()), (Peer(str(address), tuple(draw(ports))), Peer(f"192.0.2.{number}")))
        for number, address in enumerate(addresses)
        if not str(address).startswith("192.0.2.")
    ) or (Path(draw(egresses()), (Peer("192.0.2.9"),)),)
    taken = {port for path in paths for peer in path.peers for port in peer.ports}
    return Setting(
        interface=draw(st.sampled_from(["eth0", "enp3s0", "wlan0", "eth0.7"])),
        paths=paths,
        except_ports=tuple(port for port in draw(ports) if port not in taken),
        restores=draw(st.sampled_from([(), ("tso",), ("gso",), ("tso", "gso", "segs")])),
    )


@given(settings())
def test_a_setting_reads_back_from_its_lines(setting: Setting) -> None:
    assert parse(lines(setting)) == setting


@given(settings())
def test_a_setting_is_what_its_filters_stand_for(setting: Setting) -> None:
    egresses = [path.egress for path in setting.paths]
    assert setting_of(setting.interface, setting.major, egresses, claims_of(setting)) == setting


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({2: ""}, "got no line that adds a root"),
        ({2: "tc qdisc add dev eth0 root handle 1: htb default 0"}, "its root is 1:, which is not hwrun's"),
        ({0: "ethtool -K eth0 tso off"}, "got 'ethtool -K eth0 tso off', expected 'ethtool -K eth0 tso off gso off'"),
        ({3: "rm -rf /"}, "got 'rm -rf /', expected 'tc class add"),
        ({6: ""}, "its filters are not those that hwrun would set"),
        (
            {3: "tc qdisc add dev eth0 parent 4857:1 handle 4867: netem limit 8690 delay 200ms rate 5mbps"},
            "got '5mbps'",
        ),
    ],
)
def test_lines_of_no_setting_are_refused(changed: dict[int, str], said: str) -> None:
    given = [changed.get(number, line) for number, line in enumerate(lines(DURESS))]
    with pytest.raises(BadUsageError, match=said):
        parse(given)


def test_a_line_too_many_is_refused() -> None:
    with pytest.raises(BadUsageError, match="got 'tc qdisc del dev eth0 root', expected None"):
        parse([*lines(DURESS), "tc qdisc del dev eth0 root"])


def test_filters_that_lead_elsewhere_are_not_ours() -> None:
    egresses = [path.egress for path in DURESS.paths]
    with pytest.raises(NotOursError, match="class 1 has no filter"):
        setting_of("eth0", DURESS.major, egresses, ())
    claims = [claim._replace(priority=7) for claim in claims_of(DURESS)]
    with pytest.raises(NotOursError, match="not those that hwrun would set"):
        setting_of("eth0", DURESS.major, egresses, claims)
