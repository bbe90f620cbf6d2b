"""Sockets that listen and dial are set as hwrun needs them, and say how they are."""

import socket
from pathlib import Path

import pytest

from hwrun.errors import BadUsageError
from hwrun.wire.address import Address
from hwrun.wire.sockets import dial, listen, prepared
from hwrun.wire.tcp_info import tcp_info


def test_tcp_tells_of_itself_and_nagle_is_off():
    with listen(Address(host="127.0.0.1")) as listener:
        near = dial(Address(*listener.getsockname()))
        far = prepared(listener.accept()[0])
    info = tcp_info(near)
    assert info["rtt_s"] >= 0
    assert info["cwnd"] > 0
    assert info["congestion_control"]
    assert near.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    near.close()
    far.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_nothing_paces_what_stays_within_one_machine(host):
    available = Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split()
    if "cubic" not in available:
        pytest.skip("this kernel has no cubic")
    try:
        listener = listen(Address(host=host))
    except BadUsageError:
        pytest.skip(f"this host has no {host}")
    with listener:
        near = dial(Address(*listener.getsockname()[:2]))
        far = prepared(listener.accept()[0])
    assert tcp_info(near)["congestion_control"] == tcp_info(far)["congestion_control"] == "cubic"
    near.close()
    far.close()


def test_a_unix_socket_left_over_is_replaced_and_a_live_one_is_not(tmp_path):
    address = Address(path=str(tmp_path / "s"))
    listen(address).close()
    with listen(address), pytest.raises(BadUsageError, match="cannot be bound"):
        listen(address)
