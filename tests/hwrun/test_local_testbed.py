from __future__ import annotations

import contextlib
import math
import os
import signal
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from hwrun.errors import BadUsageError, HwrunError, NotPermittedError, PeerGoneError
from hwrun.local import testbed as local_testbed
from hwrun.local.namespaces import Availability, availability
from hwrun.local.site import LocalSite
from hwrun.local.testbed import Host, LocalTestbed
from hwrun.machine.steady import usable_cores
from paretosim.link import Link
from tests.hwrun.descendants import relays

# What a busy machine may add to a message, seconds. A relay that ignores rate or delay is off by far more.
NOISE_S = 0.030
AB = ("A", "B")


def link(rate_bps: float, delay_s: float, return_delay_s: float | None = None) -> Link:
    return Link(
        schema_version=1,
        name="test",
        rate_bps=rate_bps,
        one_way_delay_s=delay_s,
        return_rate_bps=rate_bps,
        return_delay_s=delay_s if return_delay_s is None else return_delay_s,
    )


def wire_time_s(size_bytes: int, over: Link) -> float:
    """x + d: every segment's headers counted."""
    segments = math.ceil(size_bytes / over.mss_bytes)
    return (size_bytes + over.header_bytes * segments) * 8 / over.rate_bps + over.one_way_delay_s


@contextlib.contextmanager
def connection(sender: Host, receiver: Host, over: Link | None) -> Iterator[tuple[socket.socket, socket.socket]]:
    with receiver.entered():
        server = socket.create_server((receiver.address(over), 0))
    with server:
        with sender.entered():
            out = socket.create_connection(server.getsockname(), timeout=20)
        there, _ = server.accept()
    with out, there:
        for end in (out, there):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end.settimeout(20)
        yield out, there


def one_way_s(out: socket.socket, there: socket.socket, size_bytes: int) -> float:
    """From the start of sending to the end of receiving, on one clock."""
    ended: list[float] = []

    def receive() -> None:
        left = size_bytes
        while left:
            left -= len(there.recv(min(left, 2**20)))
        ended.append(time.monotonic())

    receiver = threading.Thread(target=receive)
    receiver.start()
    started_s = time.monotonic()
    out.sendall(bytes(size_bytes))
    receiver.join()
    return ended[0] - started_s


def round_trip_s(out: socket.socket, there: socket.socket) -> float:
    started_s = time.monotonic()
    out.sendall(b"p")
    there.recv(1)
    there.sendall(b"p")
    out.recv(1)
    return time.monotonic() - started_s


def median_of(count: int, measure: Callable[[], float]) -> float:
    return statistics.median(measure() for _ in range(count))


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> bool:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.01)
    return True


@pytest.fixture(scope="module")
def permitted() -> None:
    found = availability()
    if found.how == "none" or found.needs_reexec:
        pytest.skip(f"no network namespaces in this process: {found}")


@pytest.fixture(scope="class")
def testbed(permitted: None) -> Iterator[LocalTestbed]:
    with LocalTestbed(shaped=True) as built:
        yield built


@pytest.mark.root
@pytest.mark.timed
class TestShapedLink:
    def test_a_warm_transfer_takes_the_wire_time(self, testbed: LocalTestbed) -> None:
        over = link(20e6, 0.030)
        testbed.shape({AB: over})
        with connection(*testbed.hosts, over) as ends:
            one_way_s(*ends, 200_000)
            one_way_s(*ends, 200_000)
            measured_s = median_of(5, lambda: one_way_s(*ends, 200_000))
        expected_s = wire_time_s(200_000, over)
        assert expected_s - 0.001 <= measured_s <= expected_s + NOISE_S

    def test_a_cold_connection_waits_round_trips_for_its_window_to_open(self, testbed: LocalTestbed) -> None:
        over = link(100e6, 0.050)
        testbed.shape({AB: over})
        with connection(*testbed.hosts, over) as ends:
            cold_s, warm_s = one_way_s(*ends, 150_000), one_way_s(*ends, 150_000)
        # 104 segments in windows of 10, 20, 40, 80: three round trips of 100 ms, less the time of sending.
        assert wire_time_s(150_000, over) + 0.25 <= cold_s <= wire_time_s(150_000, over) + 0.3 + 2 * NOISE_S
        assert cold_s - warm_s > 0.2

    def test_each_direction_has_its_own_delay(self, testbed: LocalTestbed) -> None:
        over = link(100e6, 0.080, return_delay_s=0.0)
        testbed.shape({AB: over})
        with connection(*testbed.hosts, over) as (a, b):
            forward_s = median_of(5, lambda: one_way_s(a, b, 100))
            backward_s = median_of(5, lambda: one_way_s(b, a, 100))
        assert 0.080 <= forward_s <= 0.080 + NOISE_S
        assert backward_s <= NOISE_S

    def test_reshaping_takes_effect_on_a_connection_that_is_open(self, testbed: LocalTestbed) -> None:
        testbed.shape({AB: link(100e6, 0.0)})
        with connection(*testbed.hosts, link(100e6, 0.0)) as ends:
            assert median_of(5, lambda: round_trip_s(*ends)) <= NOISE_S
            testbed.shape({AB: link(100e6, 0.050)})
            assert 0.100 <= median_of(5, lambda: round_trip_s(*ends)) <= 0.100 + NOISE_S
            testbed.shape({AB: link(100e6, 0.0)})
            assert median_of(5, lambda: round_trip_s(*ends)) <= NOISE_S

    def test_the_direct_path_is_not_shaped(self, testbed: LocalTestbed) -> None:
        testbed.shape({AB: link(1e6, 0.200)})
        testbed.shape({})
        with connection(*testbed.hosts, None) as ends:
            assert median_of(5, lambda: one_way_s(*ends, 1_000_000)) <= NOISE_S
        assert (testbed.medium("A", "B", None), testbed.medium("A", "B", link(1e6, 0.2))) == ("veth", "relay")
        assert testbed.hosts[0].address(None) != testbed.hosts[0].address(link(1e6, 0.2))

    def test_the_counters_tell_what_passed(self, testbed: LocalTestbed) -> None:
        over = link(100e6, 0.001)
        testbed.shape({AB: over})
        testbed.counters(reset=True)
        with connection(*testbed.hosts, over) as ends:
            one_way_s(*ends, 144_800)
        counters = testbed.counters()
        assert 100 <= counters["forward_frames"] <= 110
        assert 144_800 + 100 * 66 <= counters["forward_bytes"] <= 144_800 + 110 * 66
        assert counters["backward_frames"] > 0
        lost = ("drops", "overruns", "send_failures")
        assert {counters[f"{way}_{name}"] for way in ("forward", "backward") for name in lost} == {0}

    def test_the_description_reads_back_what_was_set(self, testbed: LocalTestbed) -> None:
        found = testbed.description()
        for name in ("A", "B"):
            assert found[f"{name}.net.ipv4.tcp_no_metrics_save"] == "1"
            assert found[f"{name}.net.ipv4.tcp_slow_start_after_idle"] == "0"
            assert found[f"{name}.direct.congestion_control"] == found[f"{name}.relayed.congestion_control"] == "cubic"
            assert found[f"{name}.relayed.offloads"] == ""
        assert found["relay.default_limit_bytes"] == 4345 * 1514
        assert found["namespaces"] in ("root", "userns")

    def test_connections_use_the_pinned_congestion_control(self, testbed: LocalTestbed) -> None:
        over = link(100e6, 0.0)
        for path in (None, over):
            testbed.shape({} if path is None else {AB: path})
            with connection(*testbed.hosts, path) as ends:
                for end in ends:
                    assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).strip(b"\0") == b"cubic"


@pytest.mark.root
@pytest.mark.usefixtures("permitted")
class TestBesideComputing:
    def test_a_relay_beside_computing_stages_keeps_to_the_last_core_and_wakes_once_for_several_frames(self) -> None:
        over = link(50e6, 0.010)
        with LocalSite(hosts=AB, threads=1, computing=True).testbed() as testbed:
            described = testbed.description()
            (relay,) = relays(psutil.Process())
            testbed.shape({AB: over})
            with connection(*testbed.hosts, over) as (out, there):
                one_way_s(out, there, 2_000_000)  # opens the window
                before, frames = relay.num_ctx_switches().voluntary, testbed.counters()["forward_frames"]
                started_s = time.monotonic()
                took_s = one_way_s(out, there, 2_000_000)
                lasted_s = time.monotonic() - started_s
                sleeps = relay.num_ctx_switches().voluntary - before
                passed = testbed.counters()["forward_frames"] - frames
            assert relay.cpu_affinity() == [usable_cores()[-1]]
        assert described["relay.core"] == usable_cores()[-1]
        assert described["relay.moderation_s"] == 1e-3
        assert wire_time_s(2_000_000, over) <= took_s <= wire_time_s(2_000_000, over) + NOISE_S
        assert sleeps <= lasted_s / 1e-3 + 10 < passed / 2

    def test_where_stages_only_wait_it_floats_and_wakes_for_each_frame(self) -> None:
        with LocalSite(hosts=AB, threads=1, computing=False).testbed() as testbed:
            described = testbed.description()
            (relay,) = relays(psutil.Process())
            assert relay.cpu_affinity() == list(usable_cores())
        assert not {"relay.core", "relay.moderation_s"} & set(described)


@pytest.mark.root
@pytest.mark.usefixtures("permitted")
class TestLimitsAndLife:
    @pytest.mark.timed
    def test_a_burst_beyond_the_limit_is_dropped_and_counted(self) -> None:
        over = msgspec.structs.replace(link(1e6, 0.0), limit_bytes=20 * 1514)
        with LocalTestbed(shaped=True) as testbed:
            a, b = testbed.hosts
            testbed.shape({AB: over})
            with a.entered():
                sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with b.entered():
                receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with sender, receiver:
                receiver.bind((b.address(over), 0))
                receiver.settimeout(1)
                for _ in range(100):
                    sender.sendto(bytes(1472), receiver.getsockname())
                received = 0
                with contextlib.suppress(TimeoutError):
                    while True:
                        receiver.recv(2048)
                        received += 1
            counters = testbed.counters()
        # A frame takes 12 ms at this rate; the burst a few, so hardly more than the queue's 20 get through.
        assert 20 <= received <= 26
        assert counters["forward_drops"] == 100 - received
        assert 19 * 1514 < counters["forward_max_queued_bytes"] <= 20 * 1514 + 1

    @pytest.mark.timed
    def test_a_lossy_link_with_jitter_loses_the_share_and_delays_within_its_bounds(self) -> None:
        over = msgspec.structs.replace(link(100e6, 0.020, 0.0), jitter_s=0.010, loss=0.2)
        with LocalTestbed(shaped=True, seed=4) as testbed:
            a, b = testbed.hosts
            testbed.shape({AB: over})
            with a.entered():
                sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with b.entered():
                receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            delays_s = []
            with sender, receiver:
                receiver.bind((b.address(over), 0))
                receiver.settimeout(0.06)
                for number in range(60):
                    sender.sendto(struct.pack("Id", number, time.monotonic()), receiver.getsockname())
                    with contextlib.suppress(TimeoutError):
                        _, sent_s = struct.unpack("Id", receiver.recv(64))
                        delays_s.append(time.monotonic() - sent_s)
            counters = testbed.counters()
        assert counters["forward_lost"] == 60 - len(delays_s)
        assert 2 <= counters["forward_lost"] <= 25
        assert (counters["forward_drops"], counters["backward_lost"]) == (0, 0)
        assert 0.010 <= min(delays_s) < 0.018  # among 35 draws or more, some are in the lowest 40 %
        assert max(delays_s) > 0.022

    @pytest.mark.timed
    def test_testbeds_beside_and_inside_each_other_do_not_meet(self) -> None:
        slow, fast = link(100e6, 0.050), link(100e6, 0.0)
        with LocalTestbed(shaped=True) as first, LocalTestbed(shaped=True) as second:
            first.shape({AB: slow})
            second.shape({AB: fast})
            with connection(*first.hosts, slow) as one, connection(*second.hosts, fast) as other:
                assert median_of(5, lambda: round_trip_s(*one)) >= 0.100
                assert median_of(5, lambda: round_trip_s(*other)) <= NOISE_S
            with first.hosts[0].entered(), LocalTestbed(shaped=True) as inner:
                inner.shape({AB: slow})
                with connection(*inner.hosts, slow) as ends:
                    assert round_trip_s(*ends) >= 0.100

    def test_idle_restart_is_left_to_the_kernel_when_asked(self) -> None:
        with LocalTestbed(shaped=True, slow_start_after_idle=True) as testbed:
            assert testbed.description()["A.net.ipv4.tcp_slow_start_after_idle"] == "1"

    def test_a_spawned_program_is_on_its_host_under_the_process_id_returned(self) -> None:
        with LocalTestbed(shaped=True) as testbed:
            for host in testbed.hosts:
                script = 'echo $$ $(readlink /proc/self/ns/net); grep -c . /proc/net/dev; exec 2>&-; echo "$HWRUN_X"'
                child = host.spawn(
                    ["sh", "-c", script], stdout=subprocess.PIPE, text=True, env={**os.environ, "HWRUN_X": "told"}
                )
                output, _ = child.communicate(timeout=20)
                with host.entered():
                    inside = Path("/proc/thread-self/ns/net").readlink()
                assert output.split() == [str(child.pid), str(inside), "5", "told"]  # two lines of heading, lo, two

    def test_a_killed_relay_is_told_by_the_next_call(self) -> None:
        over = link(5e6, 0.1)
        with LocalTestbed(shaped=True) as testbed:
            testbed.shape({AB: over})
            (relay,) = relays(psutil.Process())
            relay.kill()
            calls: list[Callable[[], object]] = [
                lambda: testbed.shape({AB: link(6e6, 0.1)}),
                testbed.counters,
                testbed.description,
                lambda: testbed.hosts[0].spawn(["true"]),
            ]
            for call in calls:
                with pytest.raises(PeerGoneError, match="packet relay"):
                    call()

    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
    def test_nothing_runs_on_after_an_error(self, error: type[BaseException]) -> None:
        testbed = LocalTestbed(shaped=True)
        children: list[subprocess.Popen[bytes]] = []

        def fail() -> None:
            with testbed:
                children.append(testbed.hosts[0].spawn(["sleep", "100"]))
                raise error

        with pytest.raises(error):
            fail()
        (child,) = children
        assert child.returncode == -signal.SIGTERM
        assert relays(psutil.Process()) == []
        testbed.close()
        with pytest.raises(HwrunError, match="is closed, expected open"):
            testbed.shape({})
        with pytest.raises(HwrunError, match="is closed, expected a new one"):
            testbed.__enter__()

    def test_a_build_that_fails_leaves_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> None:
            raise HwrunError("no cable")

        descriptors = set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names alone
        monkeypatch.setattr(local_testbed.wiring, "configure_host", fail)
        with pytest.raises(HwrunError, match="no cable"), LocalTestbed(shaped=True):
            pass
        assert set(os.listdir("/proc/self/fd")) == descriptors  # noqa: PTH208 - names alone

    def test_nothing_is_left_when_the_process_is_killed(self) -> None:
        script = (
            "import sys, time, threading\n"
            "from hwrun.local.testbed import LocalTestbed\n"
            "with LocalTestbed(shaped=True) as testbed:\n"
            "    for host in testbed.hosts: host.spawn(['sleep', '100'])\n"
            "    print('ready', flush=True)\n"
            "    time.sleep(100)\n"
        )
        parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        assert parent.stdout is not None
        with parent.stdout:
            assert parent.stdout.readline() == "ready\n"
            process = psutil.Process(parent.pid)
            assert wait_until(lambda: [c.name() for c in process.children()].count("sleep") == 2)
            assert len(relays(process)) == 1
            children = process.children(recursive=True)
            parent.kill()
            parent.wait()
        gone = {child.pid for child in psutil.wait_procs(children, timeout=10)[0]}
        assert gone == {child.pid for child in children}


@pytest.mark.root
@pytest.mark.usefixtures("permitted")
@pytest.mark.timed
class TestChain:
    def test_each_pair_of_three_hosts_has_a_link_of_its_own(self) -> None:
        near, far = link(100e6, 0.0), link(100e6, 0.040, return_delay_s=0.0)
        with LocalTestbed(shaped=True, names=("A", "B", "C")) as testbed:
            a, b, c = testbed.hosts
            testbed.shape({("A", "B"): near, ("C", "B"): far, ("C", "A"): far})
            for sender, receiver, least_s in ((a, b, 0.0), (b, c, 0.0), (c, b, 0.040), (c, a, 0.040), (a, c, 0.0)):
                with connection(sender, receiver, far) as ends:
                    assert least_s <= median_of(3, lambda ends=ends: one_way_s(*ends, 100)) <= least_s + NOISE_S
            with connection(a, c, None) as ends:
                assert median_of(3, lambda: round_trip_s(*ends)) <= NOISE_S
            counters = testbed.counters()
            assert {name.partition(".")[0] for name in counters} == {"A-B", "B-C", "A-C"}
            found = testbed.description()
            assert found["hosts"] == "A,B,C"
            assert found["B.relayed-C.congestion_control"] == found["C.direct-A.congestion_control"] == "cubic"
            assert found["B.relayed-A.offloads"] == ""

    def test_one_host_alone_reaches_itself(self) -> None:
        with LocalTestbed(shaped=True, names=("A",)) as testbed:
            (a,) = testbed.hosts
            assert testbed.medium("A", "A", None) == "loopback"
            with a.entered():
                server = socket.create_server((local_testbed.LOOPBACK_ADDRESS, 0))
                with server, socket.create_connection(server.getsockname(), timeout=5):
                    pass

    def test_names_must_be_different(self) -> None:
        with pytest.raises(BadUsageError, match="different names"):
            LocalTestbed(shaped=True, names=("A", "A"))


class TestLoopback:
    @pytest.fixture(autouse=True)
    def _without_rights(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr("hwrun.local.namespaces.unshare_network", refuse)
        monkeypatch.setattr("hwrun.local.namespaces.enter_network", refuse)
        monkeypatch.setattr(local_testbed, "availability", lambda: Availability("none", reason="no", remedy="ask"))

    def test_it_needs_no_rights_at_all(self) -> None:
        with LocalTestbed(shaped=False) as testbed:
            testbed.shape({})
            assert testbed.medium("A", "B", None) == "loopback"
            assert {host.address(None) for host in testbed.hosts} == {"127.0.0.1"}
            with connection(*testbed.hosts, None) as ends:
                assert round_trip_s(*ends) < 1
            assert testbed.counters() == {}
            found = testbed.description()
        assert (found["shaped"], found["namespaces"]) == (False, "none")
        assert isinstance(found["host.loopback.congestion_control"], str)

    def test_a_link_is_refused_with_what_it_would_take(self) -> None:
        over = link(5e6, 0.2)
        with LocalTestbed(shaped=False) as testbed:
            calls: list[Callable[[], object]] = [
                lambda: testbed.shape({AB: over}),
                lambda: testbed.medium(*AB, over),
                lambda: testbed.hosts[0].address(over),
            ]
            for call in calls:
                with pytest.raises(BadUsageError, match=r"link test: .* expected LocalTestbed\(shaped=True\)"):
                    call()

    def test_a_shaped_testbed_gives_the_reason_and_the_remedy(self) -> None:
        with pytest.raises(NotPermittedError, match="no; ask") as caught, LocalTestbed(shaped=True):
            pass
        assert (caught.value.reason, caught.value.remedy) == ("no", "ask")

    def test_a_process_that_must_restart_first_is_told_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(local_testbed, "availability", lambda: Availability("userns", needs_reexec=True))
        with pytest.raises(NotPermittedError, match="restart the command"), LocalTestbed(shaped=True):
            pass

    def test_a_program_that_is_not_found_ends_as_in_a_shell(self) -> None:
        with LocalTestbed(shaped=False) as testbed:
            child = testbed.hosts[0].spawn(["/no/such/program"], stderr=subprocess.PIPE, text=True)
            assert child.communicate(timeout=20)[1] == "/no/such/program: No such file or directory\n"
            assert child.returncode == 127

    def test_a_child_outlives_the_thread_that_asked_for_it_and_not_the_testbed(self) -> None:
        with LocalTestbed(shaped=False) as testbed:
            children: list[subprocess.Popen[bytes]] = []
            asker = threading.Thread(target=lambda: children.append(testbed.hosts[0].spawn(["sleep", "100"])))
            asker.start()
            asker.join()
            (child,) = children
            assert wait_until(lambda: psutil.Process(child.pid).name() == "sleep")
            time.sleep(0.1)
            assert child.poll() is None
        assert child.returncode == -signal.SIGTERM

    def test_a_child_dies_when_a_pipe_breaks_as_programs_expect(self) -> None:
        with LocalTestbed(shaped=False) as testbed:
            child = testbed.hosts[0].spawn(["sh", "-c", "kill -PIPE $$; echo ignored"], stdout=subprocess.PIPE)
            assert child.communicate(timeout=20)[0] == b""
            assert child.returncode == -signal.SIGPIPE


def test_importing_it_is_light() -> None:
    script = "import sys, hwrun.local.testbed; print(*sorted({'torch', 'numpy', 'pyroute2'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert result.stdout == "\n"
