"""Settings in this machine's own kernel: in namespaces made here, with htb, which knows a rate alone."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import pytest

from hwrun.cli import main
from hwrun.doctor.gathering import gather
from hwrun.errors import BadUsageError, HwrunError, NotPermittedError, PeerGoneError
from hwrun.local.namespaces import NetworkNamespace, availability
from hwrun.machine.offloads import is_on, switch
from hwrun.shaping import kernel
from hwrun.shaping.keeper import all_left_behind, end_keeper_of, keeper_of, left_behind
from hwrun.shaping.lease import ShapingLease
from hwrun.shaping.rtnetlink import CREATE, NEW_QDISC, ROOT, Traffic, TrafficSocket
from hwrun.shaping.session import ShapedSession
from hwrun.shaping.setting import OFFLOADS, Path, Peer, Setting, egress_of
from hwrun.shaping.tc_lines import lines
from hwrun.shaping.towards import interface_towards
from hwrun.wire.control import RequestFailedError
from tests.hwrun.shaping_guest import CONTROL_PORT, DATA_PORT, FAR, connection, one_way_s, two_hosts
from tests.hwrun.test_worker import RunningWorker

# The slowest that a busy machine may be at something done at once.
PATIENCE_S = 20.0
SETTING = Setting(interface="eth0", paths=(Path(egress_of(20e6, limiter="htb"), (Peer(FAR, (DATA_PORT,)),)),))

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def hosts() -> tuple[NetworkNamespace, NetworkNamespace]:
    permitted = availability()
    if permitted.how == "none" or permitted.needs_reexec:
        pytest.skip(f"no network namespaces in this process: {permitted}")
    if shutil.which("tc") is None:
        pytest.skip("no tc, which stands for another program here: apt-get install iproute2")
    near, far = two_hosts()
    with near.entered():
        try:
            kernel.apply(SETTING)
            kernel.remove("eth0")
        except HwrunError as error:
            pytest.skip(f"this kernel cannot shape by htb: {error}")
    return near, far


@pytest.fixture
def near(hosts: tuple[NetworkNamespace, NetworkNamespace]) -> Iterator[NetworkNamespace]:
    """The near host, entered; every test leaves it as the kernel made it."""
    with hosts[0].entered():
        yield hosts[0]
        assert wait_until(lambda: keeper_of("eth0") is None)  # it may be at its last steps
        assert kernel.read("eth0").is_default
        assert [is_on("eth0", name) for name in OFFLOADS] == [True, True, True]


def wait_until(condition: Callable[[], bool]) -> bool:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.01)
    return True


def owner(*arguments: str) -> subprocess.Popen[str]:
    """A process that shapes as `arguments` of `hwrun shape` say."""
    command = [sys.executable, "-m", "hwrun.cli", "shape", "--interface", "eth0", "--limiter", "htb", "--peer", FAR]
    return subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def shaping(*arguments: str) -> subprocess.Popen[str]:
    process = owner("--bw", "20mbit", *arguments)
    assert wait_until(lambda: kernel.read("eth0").setting is not None), process.communicate(timeout=1)
    return process


def foreign(kind: str, options: bytes) -> Traffic:
    """A root qdisc that somebody else set."""
    with TrafficSocket() as netlink:
        one = Traffic(kernel.interface_index("eth0"), 0x80010000, ROOT, kind, options)
        netlink.change(NEW_QDISC, one, CREATE)
    root = kernel.read("eth0").root
    assert root is not None
    return root


def no_qdisc() -> None:
    subprocess.run(["tc", "qdisc", "del", "dev", "eth0", "root"], check=True)


class TestKernel:
    def test_it_is_read_back_as_it_was_set_and_gone_when_removed(self, near: NetworkNamespace) -> None:
        peers = (Peer(FAR), Peer("fd00::2", (7071, 7072)), Peer("10.0.0.9", (80,)))
        asked = replace(
            SETTING, paths=(Path(SETTING.paths[0].egress, peers), SETTING.paths[0]), except_ports=(22, 7070)
        )
        wanted, put_aside = kernel.apply(asked)
        assert put_aside is None
        assert wanted == replace(asked, restores=("tso", "gso", "segs"))
        assert kernel.read("eth0").setting == wanted
        assert [is_on("eth0", name) for name in OFFLOADS] == [False, False, False]
        assert kernel.remove("eth0")
        assert not kernel.remove("eth0")

    def test_offloads_that_were_off_stay_off(self, near: NetworkNamespace) -> None:
        switch("eth0", "tso", on=False)
        try:
            assert kernel.apply(SETTING)[0].restores == ("gso", "segs")
            kernel.remove("eth0")
            assert not is_on("eth0", "tso")
        finally:
            switch("eth0", "tso", on=True)

    def test_the_typed_lines_are_that_setting(self, near: NetworkNamespace) -> None:
        asked = replace(SETTING, restores=("tso", "gso", "segs"), except_ports=())
        for line in lines(asked)[1:]:
            subprocess.run(line.split(), check=True)
        found = kernel.read("eth0")
        kernel.remove("eth0")
        assert found.setting == asked, found.problem

    def test_data_are_slowed_and_the_control_port_is_not(
        self, hosts: tuple[NetworkNamespace, NetworkNamespace], near: NetworkNamespace
    ) -> None:
        kernel.apply(SETTING)
        try:
            with connection(*hosts, DATA_PORT) as ends:
                data_s = one_way_s(ends, 1_000_000)
            with connection(*hosts, CONTROL_PORT) as ends:
                control_s = min(one_way_s(ends, 1_000_000) for _ in range(4))
        finally:
            kernel.remove("eth0")
        wire_s = (1_000_000 + 66 * 691) * 8 / 20e6  # 0.418
        assert wire_s * 0.99 < data_s  # a burst of 5000 bytes is half a percent
        assert control_s < wire_s / 2

    def test_packets_are_no_longer_than_the_mtu_when_they_are_queued(
        self, hosts: tuple[NetworkNamespace, NetworkNamespace], near: NetworkNamespace
    ) -> None:
        """TCP builds segments of many packets even with tso and gso off, and netem would take each for one packet."""
        kernel.apply(SETTING)
        try:
            with connection(*hosts, DATA_PORT) as ends:
                one_way_s(ends, 500_000)
            shown = subprocess.run(
                ["tc", "-s", "class", "show", "dev", "eth0"], capture_output=True, text=True, check=True
            )
        finally:
            kernel.remove("eth0")
        (packets,) = map(int, re.findall(r"bytes (\d+) pkt", shown.stdout))  # of the MTU
        (handed_on,) = map(int, re.findall(r"lended: (\d+)", shown.stdout))  # as they were queued
        assert packets >= 500_000 / 1448
        assert handed_on == packets

    def test_a_root_that_somebody_set_is_not_touched_unless_told_and_then_put_back(
        self, near: NetworkNamespace
    ) -> None:
        theirs = foreign("pfifo", (77).to_bytes(4, sys.byteorder))
        try:
            with pytest.raises(BadUsageError, match=r"eth0: has qdisc pfifo 8001:, which somebody set.*--replace"):
                kernel.apply(SETTING)
            assert kernel.read("eth0").root == theirs
            _, put_aside = kernel.apply(SETTING, replace_root=True)
            assert put_aside == theirs
            kernel.remove("eth0", put_aside)
            assert kernel.read("eth0").root == theirs
        finally:
            no_qdisc()

    def test_a_tree_that_could_not_be_put_back_is_not_replaced_even_when_told(self, near: NetworkNamespace) -> None:
        subprocess.run(["tc", "qdisc", "add", "dev", "eth0", "root", "handle", "1:", "htb", "default", "1"], check=True)
        try:
            with pytest.raises(BadUsageError, match="could not put back exactly"):
                kernel.apply(SETTING, replace_root=True)
        finally:
            no_qdisc()

    def test_what_an_owner_that_was_killed_left_behind_is_taken_away_first(self, near: NetworkNamespace) -> None:
        kernel.apply(SETTING)
        other = replace(SETTING, paths=(Path(egress_of(1e6, limiter="htb"), (Peer(FAR),)),))
        wanted, _ = kernel.apply(other)
        assert wanted.restores == ("tso", "gso", "segs")  # which the first had switched off
        kernel.remove("eth0")

    def test_what_was_left_behind_is_found_and_what_is_kept_is_not(self, near: NetworkNamespace) -> None:
        assert left_behind("eth0") is None
        with ShapingLease(SETTING):
            assert all_left_behind() == {}
        kernel.apply(SETTING)
        try:
            words = {"eth0": "qdisc htb 4857: with pfifo below it"}
            assert all_left_behind() == words
            assert [i.left_behind for i in gather(0.01).interfaces if i.name == "eth0"] == list(words.values())
            with pytest.raises(HwrunError, match="shape --clear --interface eth0"):
                ShapedSession().unshape()
        finally:
            assert main(["shape", "--clear", "--interface", "eth0"]) == 0
        ShapedSession().unshape()

    def test_a_change_by_another_program_is_seen(self, near: NetworkNamespace) -> None:
        kernel.apply(SETTING)
        line = "tc filter add dev eth0 parent 4857: protocol ip prio 9 u32 match ip dst 10.0.0.9/32 flowid 4857:1"
        subprocess.run(line.split(), check=True)
        found = kernel.read("eth0")
        kernel.remove("eth0")
        assert found.is_ours
        assert found.setting is None
        assert "not those that hwrun would set" in (found.problem or "")

    def test_a_kernel_without_netem_says_so_and_nothing_is_left(
        self, near: NetworkNamespace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = TrafficSocket.change

        def without_netem(self: TrafficSocket, kind: int, traffic: Traffic, flags: int = 0) -> None:
            if traffic.kind == "netem":
                raise OSError(errno.ENOENT, "unknown kind")
            real(self, kind, traffic, flags)

        monkeypatch.setattr(TrafficSocket, "change", without_netem)
        asked = replace(SETTING, paths=(Path(egress_of(5e6, 0.1), (Peer(FAR),)),))
        with pytest.raises(HwrunError, match=r"this kernel has no netem; load it \(sudo modprobe sch_netem\)"):
            kernel.apply(asked)

    def test_without_the_right_it_says_how_to_get_it(
        self, near: NetworkNamespace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise PermissionError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(TrafficSocket, "change", refuse)
        with pytest.raises(NotPermittedError, match=r"run it as root \(sudo /") as caught:
            kernel.apply(SETTING)
        assert "CAP_NET_ADMIN" in caught.value.remedy

    def test_an_interface_that_is_not_there_is_named_beside_those_that_are(self, near: NetworkNamespace) -> None:
        with pytest.raises(BadUsageError, match="got 'eth7', expected one of lo, eth0"):
            kernel.read("eth7")


class TestLease:
    def test_it_holds_while_open_and_is_gone_after(self, near: NetworkNamespace) -> None:
        with ShapingLease(SETTING) as lease:
            assert kernel.read("eth0").setting == lease.setting == replace(SETTING, restores=("tso", "gso", "segs"))
            lease.renew()
            lease.check()
        lease.close()

    def test_not_renewed_it_ends_and_its_owner_is_told(self, near: NetworkNamespace) -> None:
        lease = ShapingLease(SETTING, lease_s=0.2)
        assert wait_until(lambda: kernel.read("eth0").is_default)
        with pytest.raises(PeerGoneError, match="the shaped link is gone: its lease was not renewed in time"):
            lease.renew()
        lease.close()

    def test_renewed_it_outlives_its_first_term(self, near: NetworkNamespace) -> None:
        with ShapingLease(SETTING, lease_s=1.0) as lease:
            lease.renew(30.0)
            time.sleep(1.2)
            lease.check()

    def test_a_second_one_is_refused_and_told_whose_it_is(self, near: NetworkNamespace) -> None:
        with ShapingLease(SETTING), pytest.raises(BadUsageError, match=r"is being shaped by process \d+ already"):
            ShapingLease(SETTING)

    def test_cleared_by_another_its_owner_is_told(self, near: NetworkNamespace) -> None:
        lease = ShapingLease(SETTING)
        assert end_keeper_of("eth0") is not None
        assert kernel.read("eth0").is_default
        with pytest.raises(PeerGoneError, match="or it was cleared"):
            lease.check()
        lease.close()

    def test_changed_by_another_program_its_owner_is_told(self, near: NetworkNamespace) -> None:
        lease = ShapingLease(SETTING)
        no_qdisc()
        with pytest.raises(HwrunError, match=r"the setting was changed meanwhile: got qdisc noqueue"):
            lease.renew()
        with pytest.raises(HwrunError, match="another program has replaced the setting"):
            lease.close()

    def test_a_killed_keepers_setting_is_taken_away_by_its_owner(self, near: NetworkNamespace) -> None:
        theirs = foreign("pfifo", (77).to_bytes(4, sys.byteorder))
        lease = ShapingLease(SETTING, replace_root=True)
        pid = keeper_of("eth0")
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(PeerGoneError, match="its keeper was killed by signal 9"):
            lease.renew()
        lease.close()
        assert kernel.read("eth0").root == theirs
        no_qdisc()

    def test_one_that_cannot_be_set_leaves_no_keeper(self, near: NetworkNamespace) -> None:
        foreign("pfifo", (77).to_bytes(4, sys.byteorder))
        try:
            with pytest.raises(BadUsageError, match="which somebody set"):
                ShapingLease(SETTING)
            assert keeper_of("eth0") is None
        finally:
            no_qdisc()

    @pytest.mark.parametrize("lease_s", [0.0, -1.0, float("inf"), float("nan")])
    def test_a_lease_of_no_time_is_refused(self, lease_s: float) -> None:
        with pytest.raises(BadUsageError, match="lease: got"):
            ShapingLease(SETTING, lease_s)


class TestCommand:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_told_to_end_it_takes_everything_back(self, near: NetworkNamespace, number: signal.Signals) -> None:
        process = shaping()
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, err
        assert "tc qdisc add dev eth0 root handle 4857: htb default 0" in out
        assert "set, and read back the same" in err
        assert "as it was before" in err
        assert kernel.read("eth0").is_default

    def test_killed_with_9_it_leaves_nothing(self, near: NetworkNamespace) -> None:
        process = shaping()
        process.kill()
        process.communicate()
        assert wait_until(lambda: kernel.read("eth0").is_default and keeper_of("eth0") is None)

    def test_killed_together_with_its_keeper_the_next_clear_takes_it_away(self, near: NetworkNamespace) -> None:
        process = shaping()
        pid = keeper_of("eth0")
        assert pid is not None
        process.send_signal(signal.SIGSTOP)  # so that it does not take it away itself
        os.kill(pid, signal.SIGKILL)
        process.kill()
        process.communicate()
        assert kernel.read("eth0").is_ours
        assert not is_on("eth0", "tso")
        done = self.clear()
        assert done.returncode == 0
        assert "eth0: cleared; now qdisc noqueue 0:" in done.stderr

    def clear(self) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "hwrun.cli", "shape", "--clear", "--interface", "eth0"]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def test_clear_ends_one_that_runs_and_it_says_so(self, near: NetworkNamespace) -> None:
        process = shaping("--lease", "1s")
        assert "ended the keeper, process" in self.clear().stderr
        _, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 1
        assert "or it was cleared" in err

    def test_clear_of_what_is_clear_says_so(self, near: NetworkNamespace) -> None:
        done = self.clear()
        assert (done.returncode, "nothing of hwrun to clear" in done.stderr) == (0, True)

    def test_it_ends_by_itself_when_the_time_is_over(self, near: NetworkNamespace) -> None:
        process = owner("--bw", "20mbit", "--for", "0.1s")
        _, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0
        assert "shaped until 0 s from now, or Ctrl-C" in err

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ([], "--bw, --delay, --loss: got none"),
            (["--bw", "5mbps"], "megabytes"),
            (["--bw", "5mbit", "--delay", "10ms"], "got a delay of 10ms, expected a rate alone"),
            (["--bw", "5mbit", "--jitter", "10ms"], "--jitter: got no --delay with it"),
            (["--bw", "5mbit", "--interface", "eth7"], "expected one of lo, eth0"),
            (["--bw", "5mbit", "--lease", "0s"], "lease: got 0.0 s"),
            (["--clear", "--interface", "eth7"], "expected one of lo, eth0"),
            (["--bw", "5mbit", "--probe"], "expected ADDR:PORT where somebody listens"),
        ],
    )
    def test_what_cannot_be_is_bad_usage(
        self, near: NetworkNamespace, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        line = ["shape", "--interface", "eth0", "--limiter", "htb", "--peer", FAR, *arguments]
        assert main(line) == 2
        assert said in capsys.readouterr().err


class TestWorker:
    """What an orchestrator has a worker shape."""

    @pytest.fixture
    def worker(self, near: NetworkNamespace, tmp_path: FilePath) -> Iterator[RunningWorker]:
        running = RunningWorker(tmp_path)  # its threads are in the namespace of this one
        yield running
        running.stop()

    def test_it_holds_while_the_orchestrator_is_there(self, worker: RunningWorker) -> None:
        client = worker.client()
        printed = client.shape(SETTING.paths, None, 60.0)
        assert printed == lines(replace(SETTING, restores=("tso", "gso", "segs")))
        assert kernel.read("eth0").setting is not None
        assert client.check_shape() == printed
        client.close()
        assert wait_until(lambda: kernel.read("eth0").is_default)

    def test_it_is_taken_away_when_told_and_when_the_worker_ends(self, worker: RunningWorker) -> None:
        client = worker.client()
        client.shape(SETTING.paths, "eth0", 60.0)
        assert client.shape((), None, 60.0) == ()
        assert kernel.read("eth0").is_default
        client.shape(SETTING.paths, "eth0", 60.0)
        worker.stop()
        assert wait_until(lambda: kernel.read("eth0").is_default)
        client.close()

    def test_what_cannot_be_shaped_is_told_and_the_worker_lives_on(self, worker: RunningWorker) -> None:
        client = worker.client()
        with pytest.raises(RequestFailedError, match="expected one of lo, eth0"):
            client.shape(SETTING.paths, "eth7", 60.0)
        with pytest.raises(RequestFailedError, match="lease: got"):
            client.shape(SETTING.paths, "eth0", 1e9)
        assert client.exchange().round_trip_s > 0
        client.close()

    def test_an_orchestrator_that_falls_silent_loses_it_and_is_told_when_it_speaks(self, worker: RunningWorker) -> None:
        client = worker.client()
        client.shape(SETTING.paths, "eth0", 0.2)
        assert wait_until(lambda: kernel.read("eth0").is_default)
        with pytest.raises(RequestFailedError, match="the shaped link is gone: its lease was not renewed in time"):
            client.check_shape()
        client.close()


def test_the_interface_is_the_one_that_leads_to_the_peer(near: NetworkNamespace) -> None:
    assert interface_towards(FAR) == "eth0"
    with pytest.raises(BadUsageError, match="to which there is no route"):
        interface_towards("192.0.2.99")
    with pytest.raises(BadUsageError, match="which is this host"):
        interface_towards("10.97.0.1")


def test_a_dry_run_needs_no_rights_and_no_interface(capsys: pytest.CaptureFixture[str]) -> None:
    options: list[Any] = ["--interface", "nic9", "--bw", "5mbit", "--delay", "200ms", "--peer", "10.0.0.2:7071"]
    assert main(["shape", *options, "--dry-run"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert "tc qdisc add dev nic9 parent 4850:1 handle 4860: netem limit 8690 delay 200ms rate 5mbit" in out
    assert out[-2:] == ["# and afterwards", "tc qdisc del dev nic9 root"]
