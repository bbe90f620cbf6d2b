"""Sockets that carry frames: tensors arrive as they were, whatever their number, size and type."""

import socket
import struct
import threading
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hwrun.errors import BadUsageError, PeerGoneError, ProtocolError, TimedOutError
from hwrun.wire import tcp
from hwrun.wire.frames import HEADER_BYTES, VERSION, Kind, encode
from hwrun.wire.tcp import ALIGNMENT_BYTES, Address, BufferPool, Connection, dial, listen, prepared, tcp_info
from hwrun.wire.tensors import as_delivered, incoming, memory_order, outgoing, share_memory

DTYPES = (torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.float16, torch.uint8)


@pytest.fixture
def pair():
    one, other = socket.socketpair()
    connections = Connection(one, "one"), Connection(other, "other")
    yield connections
    for connection in connections:
        connection.close()


def transfer(sender, receiver, tensors, limit_bytes=2**30):
    specs, payload = outgoing(tensors)
    thread = threading.Thread(target=lambda: sender.send(Kind.BATCH, 7, specs=specs, payload=payload))
    thread.start()
    message = receiver.receive(BufferPool(), limit_bytes)
    thread.join()
    return message


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(1, 5), max_size=4)), min_size=1, max_size=5))
def test_tensors_of_any_type_and_shape_arrive_bit_for_bit(kinds):
    one, other = socket.socketpair()
    sender, receiver = Connection(one, "one"), Connection(other, "other")
    tensors = [torch.randint(0, 2, shape).to(dtype) for dtype, shape in kinds]
    message = transfer(sender, receiver, tensors)
    assert message.header.sequence == 7
    arrived = incoming(message)
    assert [tensor.dtype for tensor in arrived] == [dtype for dtype, _ in kinds]
    assert all(torch.equal(a, b) for a, b in zip(arrived, tensors, strict=True))
    assert all(tensor.data_ptr() % ALIGNMENT_BYTES == 0 for tensor in arrived)
    sender.close()
    receiver.close()


def test_a_payload_larger_than_the_socket_buffers_arrives_whole(pair):
    tensors = [torch.randn(3, 1_000_000), torch.arange(5)]
    arrived = incoming(transfer(*pair, tensors))
    assert all(torch.equal(a, b) for a, b in zip(arrived, tensors, strict=True))


def test_a_tensor_that_is_not_contiguous_arrives_as_it_reads(pair):
    tensor = torch.arange(12).reshape(3, 4)[:, 1:3]
    (arrived,) = incoming(transfer(*pair, [tensor]))
    assert torch.equal(arrived, tensor)
    assert arrived.is_contiguous()


@given(st.permutations(range(4)))
def test_a_permuted_tensor_is_laid_out_alike_where_it_arrives(dimensions):
    tensor = torch.arange(120).reshape(2, 3, 4, 5).permute(dimensions)
    for other in (tensor, tensor.unsqueeze(2)):
        one, two = socket.socketpair()
        sender, receiver = Connection(one, "one"), Connection(two, "two")
        (arrived,) = incoming(transfer(sender, receiver, [other]))
        (delivered,) = as_delivered([other])
        for got in (arrived, delivered):
            assert torch.equal(got, other)
            assert memory_order(got) == memory_order(other)
            assert got.squeeze().stride() == other.squeeze().stride()
        sender.close()
        receiver.close()


def test_a_single_number_travels_as_a_tensor_without_dimensions(pair):
    tensor = torch.tensor(197)
    (arrived,) = incoming(transfer(*pair, [tensor]))
    assert arrived.shape == ()
    assert arrived.item() == 197


def test_received_tensors_are_views_of_a_buffer_that_is_used_again(pair):
    pool = BufferPool()
    specs, payload = outgoing([torch.ones(1000)])
    pair[0].send(Kind.BATCH, specs=specs, payload=payload)
    first = pair[1].receive(pool, 4000)
    (tensor,) = incoming(first)
    first.buffer[0:4] = bytes(4)
    assert tensor[0] == 0
    pool.give(first.buffer)
    pair[0].send(Kind.BATCH, specs=specs, payload=payload)
    assert pair[1].receive(pool, 4000).buffer.obj is first.buffer.obj


def test_no_more_buffers_are_kept_than_were_asked_for_whatever_their_sizes():
    pool = BufferPool(kept=2)
    buffers = [pool.take(size) for size in (100, 200, 300)]
    for buffer in buffers:
        pool.give(buffer)
    assert [pool.take(size) is buffers[place] for place, size in ((0, 100), (1, 200), (2, 300))] == [False, True, True]


def test_what_is_longer_than_agreed_is_refused_before_it_is_held(pair):
    specs, payload = outgoing([torch.ones(1000)])
    pair[0].send(Kind.BATCH, specs=specs, payload=payload)
    with pytest.raises(ProtocolError, match="4000 bytes, expected at most 3999"):
        pair[1].receive(BufferPool(), 3999)


def test_a_peer_that_leaves_ends_sending_and_receiving(pair):
    pair[0].close()
    with pytest.raises(PeerGoneError, match="closed the connection"):
        pair[1].receive(BufferPool(), 100)
    with pytest.raises(PeerGoneError, match="sending PING"):
        pair[1].send(Kind.PING)


def test_shutting_down_wakes_a_blocked_receiver(pair):
    errors = []

    def receive():
        try:
            pair[1].receive(BufferPool(), 100)
        except PeerGoneError as error:
            errors.append(error)

    thread = threading.Thread(target=receive)
    thread.start()
    pair[1].shut_down()
    thread.join(timeout=5)
    assert len(errors) == 1


def test_values_that_are_no_numbers_arrive_as_they_are(pair):
    bits = torch.tensor([0x7FC00001, 0x7F800001, -4194303, 0x7F800000], dtype=torch.int32)
    (arrived,) = incoming(transfer(*pair, [bits.view(torch.float32)]))
    assert torch.equal(arrived.view(torch.int32), bits)


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(tcp, "_FRAME_GRACE_S", 0.3)
    monkeypatch.setattr(tcp, "_WAKE_S", 1)


def over_tcp():
    with listen(Address(host="127.0.0.1")) as listener:
        near = dial(Address(*listener.getsockname()))
        return near, Connection(prepared(listener.accept()[0]), "the peer")


@pytest.mark.parametrize("begun", [1, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 5])
def test_a_frame_that_begins_and_does_not_go_on_is_given_up(impatient, begun):
    near, receiver = over_tcp()
    near.sendall((encode(Kind.CHUNK, payload_bytes=10) + bytes(10))[:begun])
    start_s = time.monotonic()
    with pytest.raises(TimedOutError, match="the peer: a frame that has begun is still not whole"):
        receiver.receive(BufferPool(), 100)
    assert time.monotonic() - start_s < 10
    near.close()
    receiver.close()


def test_a_peer_that_sends_a_byte_now_and_then_is_given_up_too(impatient):
    near, receiver = over_tcp()
    gone = threading.Event()

    def drip():
        for byte in encode(Kind.CHUNK, payload_bytes=1000) + bytes(1000):
            if gone.wait(0.02):
                return
            near.sendall(bytes([byte]))

    thread = threading.Thread(target=drip)
    thread.start()
    start_s = time.monotonic()
    with pytest.raises(TimedOutError, match="still not whole"):
        receiver.receive(BufferPool(), 1000)
    assert time.monotonic() - start_s < 10
    gone.set()
    thread.join()
    near.close()
    receiver.close()


def test_a_connection_may_be_idle_between_frames_for_longer_than_a_frame_may_take(impatient):
    near, receiver = over_tcp()
    late = threading.Timer(1.5, near.sendall, [encode(Kind.PING)])
    late.start()
    assert receiver.receive(BufferPool(), 100).header.kind is Kind.PING
    late.join()
    near.close()
    receiver.close()


@pytest.mark.parametrize("cut", [1, HEADER_BYTES, HEADER_BYTES + 50, -1])
def test_a_truncated_frame_is_a_peer_that_left(pair, cut):
    specs, payload = outgoing([torch.ones(100)])
    whole = encode(Kind.BATCH, 0, specs) + bytes(payload[0])
    pair[0].socket.sendall(whole[:cut])
    pair[0].close()
    with pytest.raises(PeerGoneError, match="closed the connection"):
        pair[1].receive(BufferPool(), 1000)


def test_an_absurd_length_is_refused_before_anything_is_allocated(pair):
    taken = []

    class Watched(BufferPool):
        def take(self, size_bytes):
            taken.append(size_bytes)
            return super().take(size_bytes)

    for announced in (2**63, 2**64 - 1, 1001):
        pair[0].socket.sendall(struct.pack(">4sBBHQQ", b"hwrn", VERSION, Kind.CHUNK, 0, 0, announced))
        with pytest.raises(ProtocolError, match=f"payload of {announced} bytes, expected at most 1000"):
            pair[1].receive(Watched(), 1000)
    assert taken == []


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


@pytest.mark.parametrize("text", ["127.0.0.1:80", "[::1]:7000", "host.example:0", "unix:/run/x"])
def test_an_address_prints_as_it_is_written(text):
    assert str(Address.parse(text)) == text


@pytest.mark.parametrize("text", ["", "host", ":80", "host:port", "host:70000", "unix:", "unix:" + "x" * 200])
def test_what_is_no_address_is_refused(text):
    with pytest.raises(BadUsageError, match="expected"):
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


def test_shared_memory_is_noticed_through_views():
    tensor = torch.zeros(4, 4)
    assert share_memory([tensor.reshape(16)], [tensor])
    assert not share_memory([tensor.clone()], [tensor])
