from __future__ import annotations

import struct

import pytest
from hypothesis import given

from hwrun.shaping import options
from hwrun.shaping.claims import Claim, NotOursError, claims_of
from hwrun.shaping.rtnetlink import Traffic, attribute, attributes
from hwrun.shaping.setting import Egress, Setting
from tests.hwrun.test_shaping_lines import egresses, settings


def test_a_netem_is_the_bytes_that_the_kernel_documents() -> None:
    raw = options.netem(Egress(rate_bps=5_000_000, delay_s=0.1, jitter_s=0.0064, limit_packets=1000))
    # struct tc_netem_qopt: latency 100 ms in ticks of 64 ns, limit, loss, gap, duplicate, jitter in ticks
    assert struct.unpack_from("=6I", raw) == (1_562_500, 1000, 0, 0, 0, 100_000)
    found = attributes(raw[24:])
    assert struct.unpack("=q", found[10]) == (100_000_000,)  # TCA_NETEM_LATENCY64
    assert struct.unpack("=q", found[11]) == (6_400_000,)  # TCA_NETEM_JITTER64
    assert struct.unpack("=IiIi", found[6]) == (625_000, 0, 0, 0)  # TCA_NETEM_RATE, bytes per second


@given(egresses())
def test_a_netem_reads_back(egress: Egress) -> None:
    if egress.limiter == "netem":
        assert options.read_netem(options.netem(egress)) == egress


def test_a_netem_of_an_old_kernel_without_64_bit_times_is_read_in_ticks() -> None:
    raw = struct.pack("=6I", 1_562_500, 1000, 2**31, 0, 0, 100_000)
    egress = options.read_netem(raw)
    assert (egress.delay_s, egress.jitter_s, egress.rate_bps) == (0.1, 0.0064, None)
    assert egress.loss == pytest.approx(0.5, abs=1e-9)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (struct.pack("=6I", 0, 1000, 0, 0, 5, 0), "duplicates"),
        (struct.pack("=6I", 0, 1000, 0, 0, 0, 0) + attribute(3, struct.pack("=II", 9, 0)), "reorders"),
        (struct.pack("=6I", 0, 1000, 0, 0, 0, 0) + attribute(6, struct.pack("=IiIi", 9, 20, 0, 0)), "overhead"),
        (struct.pack("=6I", 0, 1000, 0, 0, 0, 0) + attribute(12, b"\1" * 8), "slots"),
    ],
)
def test_a_netem_that_does_what_is_never_asked_for_is_not_ours(raw: bytes, said: str) -> None:
    with pytest.raises(NotOursError, match=said):
        options.read_netem(raw)


def test_a_class_is_rate_burst_and_quantum_both_for_rate_and_ceiling() -> None:
    raw = options.htb_class(5_000_000, 5000, 1514)
    # 5000 bytes at 625000 bytes/s last 8 ms, 125000 ticks of 64 ns.
    assert options.read_htb_class(raw) == (5_000_000, 125_000, 1514)
    parms = attributes(raw)[1]
    assert struct.unpack_from("=I", parms, 8)[0] == struct.unpack_from("=I", parms, 20)[0] == 625_000


def test_a_root_that_classifies_everything_is_not_ours() -> None:
    options.check_htb_root(options.htb_root())
    with pytest.raises(NotOursError, match="default class is not 0"):
        options.check_htb_root(attribute(2, struct.pack("=5I", 3, 10, 1, 0, 0)))


def test_a_filter_matches_protocol_address_and_port_where_they_stand_in_the_packet() -> None:
    claim = Claim(3, 4, "10.0.0.2", "dport", 7071, 1)
    found = attributes(options.u32_filter(claim, 0x4850))
    assert struct.unpack("=I", found[1]) == (0x48500001,)
    assert found[5][:3] == bytes([1, 0, 3])  # terminal, no shift, three keys
    keys = [
        struct.unpack_from(">II", found[5], at) + struct.unpack_from("=ii", found[5], at + 8) for at in (16, 32, 48)
    ]
    assert keys == [
        (0x00FF0000, 0x00060000, 8, 0),  # protocol 6 at byte 9
        (0xFFFFFFFF, 0x0A000002, 16, 0),  # destination
        (0x0000FFFF, 0x00001B9F, 20, 0),  # destination port: the lower half of the ports
    ]


@given(settings())
def test_filters_read_back(setting: Setting) -> None:
    for claim in claims_of(setting):
        raw = options.u32_filter(claim, setting.major)
        assert options.read_u32_filter(raw, options.filter_info(claim)) == claim


def test_the_kernels_hash_tables_are_no_filters_and_strange_filters_are_not_ours() -> None:
    assert options.read_u32_filter(attribute(4, struct.pack("=I", 1)), 0) is None  # TCA_U32_DIVISOR
    claim = Claim(3, 4, "10.0.0.2", None, None, 1)
    raw = options.u32_filter(claim, 0x4850)
    with pytest.raises(NotOursError, match=r"protocol 0x0806"):
        options.read_u32_filter(raw, 3 << 16 | 0x0608)
    with pytest.raises(NotOursError, match="matches other bytes"):
        options.read_u32_filter(raw.replace(b"\xff\xff\xff\xff", b"\xff\xff\xff\x00"), options.filter_info(claim))


def test_a_message_reads_back_whole() -> None:
    traffic = Traffic(2, 0x48500000, 0xFFFFFFFF, "htb", options.htb_root(), 7)
    assert Traffic.decoded(traffic.encoded()) == traffic
    assert Traffic.from_json(traffic.as_json()) == traffic
