"""Shaped links of a testbed file: who is asked to set what, and which cells cannot be shaped. Workers in memory."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import msgspec
import pytest

from hwrun.commands.sweep import parsed
from hwrun.commands.sweep_conditions import sweep_plan
from hwrun.errors import BadUsageError, HwrunError, PeerGoneError
from hwrun.remote.lab_file import read_lab
from hwrun.remote.site import RemoteSite
from hwrun.remote.testbed import LEASE_S, RemoteTestbed
from hwrun.remote.workers import RemoteRoute, RemoteWorkers
from hwrun.shaping.lease import MAX_LEASE_S
from hwrun.shaping.setting import Path, Peer, egresses_of
from hwrun.testbed import DataPath
from hwrun.wire import control
from hwrun.wire.address import Address
from paretosim.link import Link

SLOW = Link(schema_version=1, name="slow", rate_bps=5e6, one_way_delay_s=0.2, return_rate_bps=5e6, return_delay_s=0.0)
FILE = """
token_file = "token"
results_port = 7072
[[hosts]]
name = "pi-a"
address = "192.0.2.11"
device = "rpi4b"
interface = "eth0"
ssh = {}
[[hosts]]
name = "pi-b"
address = "192.0.2.12"
device = "rpi4b"
ssh = {}
[[hosts]]
name = "here"
address = "192.0.2.1"
device = "x86-core"
data_port = 8071
"""


class Client:
    """What a worker is asked to shape."""

    def __init__(self) -> None:
        self.shaped: list[tuple[tuple[Path, ...], str | None, float]] = []
        self.lost = False
        self.except_ports: tuple[int, ...] | None = None

    def shape(self, paths, interface, lease_s, except_ports):
        self.shaped.append((tuple(paths), interface, lease_s))
        self.except_ports = except_ports
        return tuple(f"tc for {path.peers[0]}" for path in paths)

    def check_shape(self):
        if self.lost:
            raise HwrunError("the shaped link is gone")
        return ("tc as it is",)


@pytest.fixture
def lab(tmp_path):
    (tmp_path / "token").write_text("x" * 32)
    (tmp_path / "token").chmod(0o600)
    path = tmp_path / "lab.toml"
    path.write_text(FILE)
    return path


@pytest.fixture
def clients():
    return {name: Client() for name in ("pi-a", "pi-b", "here")}


@pytest.fixture
def testbed(lab, clients):
    with RemoteTestbed(read_lab(lab), ("pi-a", "pi-b", "here")) as made:
        made.reach(clients.__getitem__)
        yield made


def test_both_ends_of_a_link_shape_what_they_send_and_no_other_host_anything(testbed, clients):
    testbed.shape({("pi-a", "pi-b"): SLOW})
    forward, back = egresses_of(SLOW)
    assert clients["pi-a"].shaped == [((Path(forward, (Peer("192.0.2.12", (7071,)),)),), "eth0", LEASE_S)]
    assert clients["pi-b"].shaped == [((Path(back, (Peer("192.0.2.11", (7071,)),)),), None, LEASE_S)]
    assert clients["here"].shaped == [((), None, LEASE_S)]
    testbed.shape({})
    assert [client.shaped[-1][0] for client in clients.values()] == [(), (), ()]
    assert testbed.counters() == {}


def test_a_link_outlasts_a_cell_in_which_its_hosts_hear_nothing(testbed, clients):
    for hold_s in (3600.0, 1e9):
        testbed.shape({("pi-a", "pi-b"): SLOW}, hold_s=hold_s)
    assert [lease_s for _, _, lease_s in clients["pi-b"].shaped] == [LEASE_S + 3600, MAX_LEASE_S]


def test_results_taken_on_this_machine_cross_the_shaped_path_too(testbed, clients):
    testbed.shape({("here", "pi-b"): SLOW})
    ((path,), _, _) = clients["pi-b"].shaped[0]
    assert path.peers == (Peer("192.0.2.1", (7071, 7072, 8071)),)


def test_where_data_take_any_port_everything_between_the_hosts_is_shaped_but_control_and_ssh(testbed, clients):
    testbed.shape({("pi-a", "pi-b"): SLOW}, any_port=True)
    ((path,), _, _) = clients["pi-a"].shaped[0]
    assert path.peers == (Peer("192.0.2.12", ()),)
    assert clients["pi-a"].except_ports == (22, 7070)
    testbed.shape({("pi-a", "pi-b"): SLOW})
    assert clients["pi-a"].shaped[-1][0][0].peers == (Peer("192.0.2.12", (7071,)),)
    assert clients["pi-a"].except_ports == ()


def test_what_is_set_is_read_back_after_a_cell_and_a_loss_fails_it(testbed, clients):
    testbed.shape({("pi-a", "pi-b"): SLOW})
    assert testbed.counters() == {"pi-a.tc": "tc as it is", "pi-b.tc": "tc as it is"}
    clients["pi-b"].lost = True
    with pytest.raises(HwrunError, match="is gone"):
        testbed.counters()


def test_a_link_without_workers_is_refused(lab):
    with RemoteTestbed(read_lab(lab), ("pi-a", "pi-b")) as made:
        made.shape({})
        with pytest.raises(HwrunError, match="there are no workers yet"):
            made.shape({("pi-a", "pi-b"): SLOW})


NAMES = {"pi-a.lab": "192.0.2.11", "pi-b.lab": "192.0.2.12"}


@pytest.fixture
def resolver(lab, monkeypatch):
    """Names for the hosts of the file, and what is asked of whoever knows them; without NAMES in it he is not there."""
    known, asked = dict(NAMES), []

    def getaddrinfo(host, port, *_, **__):
        asked.append(host)
        if host in known:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (known[host], port or 0))]
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    text = FILE
    for name, address in NAMES.items():
        text = text.replace(f'"{address}"', f'"{name}"')
    lab.write_text(text)
    return SimpleNamespace(known=known, asked=asked)


def test_names_are_resolved_when_the_testbed_is_opened_and_not_again_for_each_cell(lab, clients, resolver):
    site = RemoteSite(read_lab(lab), ("pi-a", "pi-b"))
    with site.testbed() as testbed:
        testbed.reach(clients.__getitem__)
        resolver.known.clear()
        for any_port in (False, True):
            testbed.shape({("pi-a", "pi-b"): SLOW}, any_port=any_port)
        testbed.shape({})
        assert clients["pi-a"].shaped[0][0][0].peers == (Peer("192.0.2.12", (7071,)),)
        workers = RemoteWorkers(site.lab, site.hosts, testbed.addresses)
        path = DataPath(site.hosts, (None,), "pi-b", None, "rpc")
        assert workers._meeting(path, site.hosts) == (["192.0.2.11", "192.0.2.12"], "tcp://192.0.2.11:7080")
    assert resolver.asked == ["pi-a.lab", "pi-b.lab"]


def test_a_name_that_nobody_knows_is_said_when_the_testbed_is_opened(lab, resolver):
    del resolver.known["pi-b.lab"]
    with pytest.raises(BadUsageError, match=r"host pi-b: got pi-b\.lab, which is not known here \(Temporary failure"):
        RemoteTestbed(read_lab(lab), ("pi-a", "pi-b")).__enter__()


def test_a_moment_without_a_resolver_fails_the_cell_whose_results_need_it_and_says_so(lab, resolver, tmp_path):
    resolver.known.clear()
    path = DataPath(("pi-a", "pi-b"), (None,), "pi-b", None)
    route = RemoteRoute(read_lab(lab), path, Address(path=str(tmp_path / "results")))
    with pytest.raises(PeerGoneError, match=r"results: no way to pi-b\.lab:7071: Temporary failure in name resolution"):
        route.listen_for_results()


def planned(lab, *options):
    options = ("--testbed", str(lab), "--model", "mobilenet_v2", "--splits", "3", "--link", "5mbit,20ms", *options)
    return sweep_plan(parsed([*options, "--repeats", "1"])).cells[0]


def test_a_shaped_cell_is_measured_unless_its_results_would_pass_the_shaped_path_by(lab):
    site = RemoteSite(read_lab(lab), ("pi-a", "pi-b", "here"))
    assert site.refuses(planned(lab, "--hosts", "pi-a,pi-b")) is None
    reason, remedy = site.refuses(planned(lab, "--hosts", "pi-a,pi-b", "--sink", "first"))
    assert "results are wanted on pi-a" in reason
    assert remedy == "run the sweep on pi-a, with results_port set in the testbed file"
    assert site.refuses(planned(lab, "--hosts", "here,pi-b", "--sink", "first")) is None
    without = RemoteSite(msgspec.structs.replace(read_lab(lab), results_port=0), ("here", "pi-b"))
    assert without.refuses(planned(lab, "--hosts", "here,pi-b", "--sink", "first")) is not None


def test_inputs_that_come_from_elsewhere_than_the_sink_are_not_shaped_as_asked(lab):
    site = RemoteSite(read_lab(lab), ("pi-a", "pi-b", "here"))
    reason, remedy = site.refuses(planned(lab, "--hosts", "pi-a,pi-b", "--source", "sink"))
    assert "inputs come from this machine and not from pi-b" in reason
    assert remedy == "run the sweep on pi-b"
    assert site.refuses(planned(lab, "--hosts", "pi-a,here", "--source", "sink")) is None


def test_rpc_is_for_hosts_that_trust_the_network(lab):
    rpc = ("--backend", "rpc", "--hosts", "pi-a,here")
    reason, remedy = RemoteSite(read_lab(lab), ("pi-a", "here")).refuses(planned(lab, *rpc))
    assert "asks for no token, and pi-a and here must not trust the network" in reason
    assert "set trust_network" in remedy
    lab.write_text(FILE.replace("device =", "trust_network = true\ndevice ="))
    site = RemoteSite(read_lab(lab), ("pi-a", "here"))
    assert site.refuses(planned(lab, *rpc)) is None


class Member:
    """A worker that is asked to join a group."""

    def __init__(self, pid):
        self.welcome = control.Welcome(versions={}, pid=pid, data_port=1, conditions={}, devices=("cpu",), qdiscs={})
        self.joined = []

    def join_rpc(self, *asked):
        self.joined.append(asked)


def test_workers_join_one_group_and_a_new_one_only_when_others_take_part_or_one_was_started_again(lab, monkeypatch):
    (lab.parent / "token").touch(mode=0o600)
    (lab.parent / "token").write_bytes(b"a token of sixteen bytes or more")
    addresses = {"pi-a": "192.0.2.11", "pi-b": "192.0.2.12", "here": "192.0.2.1"}
    workers = RemoteWorkers(read_lab(lab), tuple(addresses), addresses)
    members = workers._clients = {name: Member(pid) for pid, name in enumerate(("pi-a", "pi-b", "here"))}
    monkeypatch.setattr(workers, "folder", lab.parent, raising=False)

    def ends(*hosts):
        workers.ends(DataPath(hosts, (None,) * (len(hosts) - 1), hosts[-1], None, "rpc"))

    ends("pi-a", "pi-b", "pi-b")
    ends("pi-a", "pi-b", "pi-b")
    assert members["pi-a"].joined == [(0, 2, "tcp://192.0.2.11:7080", "192.0.2.11")]
    assert members["pi-b"].joined == [(1, 2, "tcp://192.0.2.11:7080", "192.0.2.12")]
    members["pi-b"] = workers._clients["pi-b"] = Member(77)
    ends("pi-a", "pi-b")
    assert members["pi-b"].joined == [(1, 2, "tcp://192.0.2.11:7081", "192.0.2.12")]
    ends("pi-b", "here")
    assert members["here"].joined == [(1, 2, "tcp://192.0.2.12:7082", "192.0.2.1")]


def test_loopback_is_not_shaped(lab):
    lab.write_text(FILE.replace("192.0.2.12", "127.0.0.2"))
    reason, _ = RemoteSite(read_lab(lab), ("pi-a", "pi-b")).refuses(planned(lab, "--hosts", "pi-a,pi-b"))
    assert reason == "host pi-b takes data at 127.0.0.2, the loopback interface, which is not shaped"
