"""Addresses are read, written and told apart."""

import pytest

from hwrun.errors import BadUsageError
from hwrun.wire.address import Address


@pytest.mark.parametrize("text", ["127.0.0.1:80", "[::1]:7000", "host.example:0", "unix:/run/x"])
def test_an_address_prints_as_it_is_written(text):
    assert str(Address.parse(text)) == text


@pytest.mark.parametrize("text", ["", "host", ":80", "host:port", "host:70000", "unix:", "unix:" + "x" * 200])
def test_what_is_no_address_is_refused(text):
    with pytest.raises(BadUsageError, match="expected"):
        Address.parse(text)


@pytest.mark.parametrize("text", ["::1", "::1:7000", "fd00::2:7000", "[::1"])
def test_an_ipv6_address_without_brackets_is_not_taken_apart_by_guess(text):
    with pytest.raises(BadUsageError, match=r"expected an IPv6 address in brackets, such as \[::1\]:7070"):
        Address.parse(text)


@pytest.mark.parametrize(
    ("text", "local"),
    [
        ("127.0.0.1:1", True), ("[::1]:1", True), ("localhost:1", True), ("unix:/x", True),
        ("0.0.0.0:1", False), ("10.0.0.1:1", False), ("pi.example:1", False),
    ],
)  # fmt: skip
def test_only_loopback_and_unix_sockets_count_as_local(text, local):
    assert Address.parse(text).is_local is local
