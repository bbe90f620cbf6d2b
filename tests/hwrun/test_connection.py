"""Frames over a stream: tensors arrive as they were, whatever their number, size and type."""

import socket
import struct
import threading
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hwrun.errors import PeerGoneError, ProtocolError, TimedOutError
from hwrun.wire import connection, sockets
from hwrun.wire.address import Address
from hwrun.wire.buffer_pool import ALIGNMENT_BYTES, BufferPool
from hwrun.wire.connection import Connection
from hwrun.wire.frames import HEADER_BYTES, VERSION, Kind, encode
from hwrun.wire.sockets import dial, listen, prepared
from hwrun.wire.tensors import Room, as_delivered, incoming, memory_order, outgoing

DTYPES = (torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.float16, torch.uint8)


@pytest.fixture
def pair():
    one, other = socket.socketpair()
    ends = Connection(one, "one"), Connection(other, "other")
    yield ends
    for end in ends:
        end.close()


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


@pytest.mark.parametrize("tensors", [[torch.ones(1000)], [torch.ones(3), torch.arange(5), torch.ones(7)]])
def test_a_frame_that_has_begun_says_what_comes_and_is_completed_into_room_made_for_that(pair, tensors):
    specs, payload = outgoing(tensors)
    room = Room(specs)
    early = room.tensors()
    pair[0].send(Kind.BATCH, 7, specs=specs, payload=payload)
    message = pair[1].begin(4000)
    assert message.specs == room.specs
    assert message.header.sequence == 7
    pair[1].complete(message, room.buffer)
    assert message.end_s >= message.start_s
    assert all(map(torch.equal, early, tensors))
    assert all(map(torch.equal, room.tensors(), tensors))


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
    monkeypatch.setattr(connection, "_FRAME_GRACE_S", 0.3)
    monkeypatch.setattr(sockets, "_WAKE_S", 1)


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


@pytest.mark.parametrize("size_bytes", [2**18 - 1, 2**18, 1_500_001, 9_000_000])
@pytest.mark.parametrize("piece_bytes", [100_003, 700_001])
def test_a_payload_that_comes_in_pieces_is_never_slept_through(size_bytes, piece_bytes):
    near, receiver = over_tcp()
    payload = bytes(range(251)) * (size_bytes // 251 + 1)
    frame = encode(Kind.CHUNK, payload_bytes=size_bytes) + payload[:size_bytes] + encode(Kind.PING)

    def send():
        for place in range(0, len(frame), piece_bytes):
            near.sendall(frame[place : place + piece_bytes])
            time.sleep(0.001)

    thread = threading.Thread(target=send)
    start_s = time.monotonic()
    thread.start()
    assert receiver.receive(BufferPool(), size_bytes).buffer == payload[:size_bytes]
    assert receiver.receive(BufferPool(), 0).header.kind is Kind.PING
    # A sleep that nothing ends is ended by the socket after five seconds (_WAKE_S).
    assert time.monotonic() - start_s < sockets._WAKE_S
    assert receiver.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1
    thread.join()
    near.close()
    receiver.close()


def test_a_peer_that_leaves_amid_a_long_payload_wakes_who_waits_for_it():
    near, receiver = over_tcp()
    near.sendall(encode(Kind.CHUNK, payload_bytes=9_000_000) + bytes(100_000))
    near.close()
    start_s = time.monotonic()
    with pytest.raises(PeerGoneError, match="closed the connection"):
        receiver.receive(BufferPool(), 9_000_000)
    assert time.monotonic() - start_s < sockets._WAKE_S
    receiver.close()


def test_shutting_down_wakes_a_peer_that_is_sending_more_than_there_is_room_for():
    near, receiver = over_tcp()
    sender = Connection(near, "receiver")
    errors = []

    def send():
        try:
            sender.send(Kind.CHUNK, payload=(bytes(64 * 2**20),))
        except PeerGoneError as error:
            errors.append(error)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    receiver.begin(64 * 2**20)
    time.sleep(0.3)  # until buffers are full
    receiver.shut_down()
    thread.join(timeout=5)
    assert len(errors) == 1
    sender.close()
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


@pytest.mark.parametrize("over", ["tcp", "unix"])
def test_a_peer_that_takes_nothing_is_given_up_where_sends_are_bounded(monkeypatch, tmp_path, over):
    monkeypatch.setattr(sockets, "_STUCK_S", 1)
    address = Address(host="127.0.0.1") if over == "tcp" else Address(path=str(tmp_path / "s"))
    with listen(address) as listener:
        near = dial(address if over == "unix" else Address(*listener.getsockname()))
        far, _ = listener.accept()
        sockets.bound_sends(near)
        sender = Connection(near, "w")
        # More than the buffers of both ends. Over TCP the kernel's limit for what is not acknowledged may come first.
        with pytest.raises((TimedOutError, PeerGoneError), match=r"w: (takes no|sending) CHUNK"):
            sender.send(Kind.CHUNK, payload=(bytes(2**28),))
        with pytest.raises(PeerGoneError):
            sender.send(Kind.PING)  # half a frame is out: nothing may follow it
        sender.close()
        far.close()
