"""What is left behind is found: each look at the kernel can fail."""

import os
import socket
import subprocess
import sys
import time

import pytest

from hwrun.local.namespaces import NetworkNamespace, availability
from tests.soak.leftovers import Holdings, processes_with, waited_for_a_core_s

LISTENS = """
import socket
tcp, udp = socket.create_server(("127.0.0.1", 0)), socket.socket(type=socket.SOCK_DGRAM)
udp.bind(("127.0.0.1", 0))
print(tcp.getsockname()[1], udp.getsockname()[1], flush=True)
input()
"""


@pytest.fixture
def listening(tmp_path):
    """A process of the tests' own namespace with a TCP and a UDP port, and these."""
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", LISTENS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        yield process, [int(port) for port in process.stdout.readline().split()]
        process.kill()


def test_a_process_is_known_by_its_environment_until_it_ends(listening, tmp_path):
    process, _ = listening
    assert list(processes_with("TMPDIR", str(tmp_path))) == [process.pid]
    assert processes_with("TMPDIR", str(tmp_path.parent)) == {}
    process.kill()
    process.wait()
    assert processes_with("TMPDIR", str(tmp_path)) == {}


def test_sockets_that_were_noted_are_held_until_their_process_ends(listening):
    process, _ = listening
    holdings = Holdings()
    holdings.note(process.pid)
    assert holdings.counts == (2, 0)
    assert len(holdings.still_held()) == 2
    process.kill()
    process.wait()
    assert holdings.still_held() == {}


@pytest.mark.root
@pytest.mark.skipif(availability().how != "root", reason="entering another's network namespace takes root")
def test_an_open_port_is_seen_in_a_namespace_whoever_has_it():
    namespace = NetworkNamespace.create()
    with namespace.entered():
        process = subprocess.Popen(["sleep", "60"])
    with process:
        holdings = Holdings()
        holdings.note(process.pid)
        assert holdings.counts == (0, 1)
        assert holdings.open_ports() == []
        with namespace.entered():
            tcp, udp = socket.create_server(("", 0)), socket.socket(type=socket.SOCK_DGRAM)
            udp.bind(("", 0))
        with tcp, udp:
            ports = [f"tcp {tcp.getsockname()[1]}", f"udp {udp.getsockname()[1]}"]
            assert holdings.open_ports() == ports
        assert holdings.open_ports() == []
        process.kill()
    holdings.close()
    namespace.close()


def test_a_process_that_shares_its_core_is_said_to_wait_for_it():
    core = str(min(os.sched_getaffinity(0)))
    spin = ["taskset", "-c", core, sys.executable, "-c", "while True: pass"]
    with subprocess.Popen(spin) as one, subprocess.Popen(spin) as other:
        time.sleep(2.0)
        waited_s = waited_for_a_core_s(one.pid)
        one.kill()
        other.kill()
    assert waited_s > 0.3
    assert waited_for_a_core_s(one.pid) == 0.0
