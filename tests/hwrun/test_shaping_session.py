from __future__ import annotations

from typing import Any

import pytest

from hwrun.errors import BadUsageError, HwrunError, PeerGoneError
from hwrun.shaping.ends import End, paths_by_host
from hwrun.shaping.on_the_wire import from_wire, to_wire
from hwrun.shaping.session import ShapedSession
from hwrun.shaping.setting import Path, Peer, Setting, egress_of, egresses_of
from hwrun.shaping.tc_lines import parse
from paretosim.link import Link

SLOW, SLOWER = egress_of(5e6, 0.1), egress_of(1e6, 0.1, 0.01, 0.01)
ENDS = {
    "a": End("10.0.0.1", (7071,)),
    "b": End("10.0.0.2", (7071, 7072)),
    "c": End("10.0.0.3", (7071,)),
}


def link(name: str, rate_bps: float, delay_s: float = 0.1) -> Link:
    return Link(
        schema_version=1, name=name, rate_bps=rate_bps, one_way_delay_s=delay_s, return_rate_bps=rate_bps / 2,
        return_delay_s=0.0,
    )  # fmt: skip


class Leases:
    """Leases in memory, and what was done to them."""

    def __init__(self, refuses: str | None = None) -> None:
        self.refuses = refuses
        self.open: dict[str, Lease] = {}
        self.opened: list[str] = []

    def __call__(self, setting: Setting, lease_s: float) -> Any:
        if setting.interface == self.refuses:
            raise HwrunError(f"{setting.interface}: refused")
        self.opened.append(setting.interface)
        self.open[setting.interface] = lease = Lease(self, setting, lease_s)
        return lease


class Lease:
    def __init__(self, leases: Leases, setting: Setting, lease_s: float) -> None:
        self.leases, self.setting, self.interface = leases, setting, setting.interface
        self.terms_s = [lease_s]
        self.lost: HwrunError | None = None

    def renew(self, lease_s: float) -> None:
        self.check()
        self.terms_s.append(lease_s)

    def check(self) -> None:
        if self.lost is not None:
            raise self.lost

    def close(self) -> None:
        del self.leases.open[self.interface]


def session(leases: Leases) -> ShapedSession:
    return ShapedSession((7070,), leases, lambda address: "wlan0" if address == "10.0.0.3" else "eth0", dict)


def test_peers_behind_several_interfaces_are_shaped_on_each() -> None:
    leases = Leases()
    shaped = session(leases)
    near, far = Path(SLOW, (Peer("10.0.0.2", (7071,)),)), Path(SLOWER, (Peer("10.0.0.3", (7071,)),))
    printed = shaped.shape([near, far], (), None, 60.0)
    assert leases.open["eth0"].setting == Setting(interface="eth0", paths=(near,))
    assert leases.open["wlan0"].setting == Setting(interface="wlan0", paths=(far,))
    assert parse(printed[: len(printed) // 2]) == leases.open["eth0"].setting
    shaped.unshape()
    assert leases.open == {}
    shaped.unshape()


def test_a_host_with_a_setting_that_nobody_keeps_is_not_unshaped_but_may_be_shaped_anew() -> None:
    leases, left = Leases(), {"eth1": "qdisc htb 4857: with netem below it"}
    shaped = ShapedSession((), leases, lambda address: "eth0", lambda: left)
    path, other = Path(SLOW, (Peer("10.0.0.2", (7071,)),)), Path(SLOWER, (Peer("10.0.0.2", (7071,)),))
    shaped.shape([path], (), None, 60.0)
    shaped.shape([other], (), None, 60.0)  # what is on that interface is taken away by its keeper
    said = r"eth1: has qdisc htb 4857: with netem below it, which was left .*: sudo /.* shape --clear --interface eth1$"
    with pytest.raises(HwrunError, match=said):
        shaped.unshape()
    assert leases.open == {}  # its own is away all the same
    left.clear()
    shaped.unshape()


def test_the_workers_own_control_port_stays_unshaped_for_a_whole_address() -> None:
    leases = Leases()
    session(leases).shape([Path(SLOW, (Peer("10.0.0.2"),))], (22,), None, 60.0)
    assert leases.open["eth0"].setting.except_ports == (22, 7070)


def test_the_same_again_renews_and_another_replaces() -> None:
    leases = Leases()
    shaped = session(leases)
    path, other = Path(SLOW, (Peer("10.0.0.2", (7071,)),)), Path(SLOWER, (Peer("10.0.0.2", (7071,)),))
    shaped.shape([path], (), None, 60.0)
    shaped.shape([path], (), None, 90.0)
    assert leases.opened == ["eth0"]
    assert leases.open["eth0"].terms_s == [60.0, 90.0]
    shaped.shape([other], (), None, 60.0)
    assert leases.opened == ["eth0", "eth0"]


def test_where_one_interface_cannot_be_shaped_none_is() -> None:
    leases = Leases(refuses="wlan0")
    paths = [Path(SLOW, (Peer("10.0.0.2", (1,)),)), Path(SLOW, (Peer("10.0.0.3", (1,)),))]
    with pytest.raises(HwrunError, match="wlan0: refused"):
        session(leases).shape(paths, (), None, 60.0)
    assert leases.open == {}


def test_what_the_orchestrator_says_renews_what_is_due_and_a_loss_is_told_at_the_next_check() -> None:
    leases = Leases()
    shaped = session(leases)
    shaped.heard()  # harmless where nothing is shaped
    shaped.shape([Path(SLOW, (Peer("10.0.0.2", (7071,)),))], (), None, 60.0)
    lease = leases.open["eth0"]
    shaped.heard()
    assert lease.terms_s == [60.0]  # not due yet
    shaped._renew_at_s = 0.0
    shaped.heard()
    assert lease.terms_s == [60.0, 60.0]
    shaped.check()
    lease.lost = PeerGoneError("the shaped link is gone")
    shaped._renew_at_s = 0.0
    shaped.heard()
    lease.lost = None  # whatever it is now, it was gone in between
    with pytest.raises(PeerGoneError, match="is gone"):
        shaped.check()


def test_a_path_whose_peers_are_behind_two_interfaces_is_refused() -> None:
    path = Path(SLOW, (Peer("10.0.0.2"), Peer("10.0.0.3")))
    with pytest.raises(BadUsageError, match="reached by eth0, wlan0"):
        session(Leases()).shape([path], (), None, 60.0)


def test_a_link_is_shaped_by_both_of_its_hosts_for_the_data_ports_of_either() -> None:
    asked = link("slow", 5e6)
    forward, back = egresses_of(asked)
    assert paths_by_host({("a", "b"): asked}, ENDS) == {
        "a": (Path(forward, (Peer("10.0.0.2", (7071, 7072)),)),),
        "b": (Path(back, (Peer("10.0.0.1", (7071, 7072)),)),),
    }


def test_a_host_in_the_middle_has_a_path_to_each_side() -> None:
    one, two = link("one", 5e6), link("two", 50e6)
    found = paths_by_host({("a", "b"): one, ("b", "c"): two}, ENDS)
    assert [path.egress for path in found["b"]] == [egresses_of(one)[1], egresses_of(two)[0]]
    assert {name: len(paths) for name, paths in found.items()} == {"a": 1, "b": 2, "c": 1}


def test_a_link_and_its_reverse_agree_and_others_do_not() -> None:
    asked = link("slow", 5e6)
    both = paths_by_host({("a", "b"): asked, ("b", "a"): asked.reverse()}, ENDS)
    assert both == paths_by_host({("a", "b"): asked}, ENDS)
    with pytest.raises(BadUsageError, match="link other: from b to a another link asks for something else"):
        paths_by_host({("a", "b"): asked, ("b", "a"): link("other", 7e6)}, ENDS)


def test_hosts_at_one_address_have_no_interface_between_them() -> None:
    with pytest.raises(BadUsageError, match=r"a and b share the address 10\.0\.0\.1"):
        paths_by_host({("a", "b"): link("slow", 5e6)}, {"a": ENDS["a"], "b": ENDS["a"]})


def test_a_path_crosses_the_wire() -> None:
    path = Path(SLOWER, (Peer("10.0.0.2", (7071, 7072)), Peer("fd00::2")))
    assert from_wire(to_wire(path)) == path
