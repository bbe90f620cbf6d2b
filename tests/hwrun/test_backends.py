"""What every backend owes a stage: one suite, and a way to make both ends of a hop for each of them."""

from __future__ import annotations

import contextlib
import gc
import re
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from hwrun.backends import rpc
from hwrun.backends.cold_tcp import ColdTcpInlet, ColdTcpOutlet
from hwrun.backends.contract import Arrival, Inlet, Outlet
from hwrun.backends.memory import MemoryExchange, address
from hwrun.backends.rpc import RpcMember, join_group
from hwrun.backends.tcp import TcpInlet, TcpOutlet
from hwrun.errors import BadUsageError, HwrunError, PeerGoneError, ProtocolError
from hwrun.wire.connection import Connection
from hwrun.wire.tensors import Room
from paretosim.link import Link

LIMIT_BYTES = 4 * 2**20


@dataclass
class Hop:
    outlet: Outlet
    inlet: Inlet


@contextlib.contextmanager
def tcp_hop() -> Iterator[Hop]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    outlet = TcpOutlet(Connection(near, "far"))
    inlet = TcpInlet(Connection(far, "near"), 2, LIMIT_BYTES)
    try:
        yield Hop(outlet, inlet)
    finally:
        outlet.close()
        inlet.close()


@contextlib.contextmanager
def memory_hop() -> Iterator[Hop]:
    exchange = MemoryExchange()
    inlet = exchange.inlet("p", 1, LIMIT_BYTES)
    outlet = exchange.outlet(address("A", "B"), "p", 1)
    yield Hop(outlet, inlet)
    outlet.close()


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RpcMember]:
    """A group of one: it calls itself."""
    if not torch.distributed.is_available() or not torch.distributed.rpc.is_available():
        pytest.skip("this torch has no RPC")
    member = RpcMember(reach="loopback")
    member.join("A", 0, 1, f"file://{tmp_path_factory.mktemp('rpc')}/group", "127.0.0.1")
    yield member
    member.leave()


@contextlib.contextmanager
def rpc_hop(member: RpcMember) -> Iterator[Hop]:
    # A name of its own, as every pipeline has: the news that an end has gone may come late.
    pipeline = secrets.token_hex(4)
    inlet = member.inlet(pipeline, 1, LIMIT_BYTES)
    outlet = member.outlet("rpc:A", pipeline, 1)
    yield Hop(outlet, inlet)
    outlet.close()
    inlet.close()


@contextlib.contextmanager
def cold_tcp_hop() -> Iterator[Hop]:
    """Every dial is accepted at once, as a worker's data listener does."""
    inlet = ColdTcpInlet()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def dial() -> TcpOutlet:
            near = socket.create_connection(server.getsockname())
            far, _ = server.accept()
            if inlet._gone:  # a worker refuses a stage that has ended
                near.close()
                far.close()
                raise PeerGoneError("stage 1 is not deployed here")
            inlet.add(TcpInlet(Connection(far, "near"), 2, LIMIT_BYTES))
            return TcpOutlet(Connection(near, "far"))

        outlet = ColdTcpOutlet(dial)
        try:
            yield Hop(outlet, inlet)
        finally:
            outlet.close()
            inlet.close()


HOPS: dict[str, Callable[[], contextlib.AbstractContextManager[Hop]]] = {
    "tcp": tcp_hop,
    "cold tcp": cold_tcp_hop,
    "memory": memory_hop,
}


@pytest.fixture(params=[*HOPS, "rpc"])
def hop(request: pytest.FixtureRequest) -> Iterator[Hop]:
    with rpc_hop(request.getfixturevalue("member")) if request.param == "rpc" else HOPS[request.param]() as made:
        yield made


def sending(hop: Hop, *batches: tuple[torch.Tensor, ...]) -> threading.Thread:
    def send() -> None:
        with contextlib.suppress(PeerGoneError):
            for number, tensors in enumerate(batches):
                hop.outlet.send(number, tensors)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    return thread


def test_batches_arrive_whole_and_in_order_with_their_numbers(hop: Hop) -> None:
    batches = [(torch.randn(8, 3, 50, 50), torch.arange(number, number + 4)) for number in range(20)]
    thread = sending(hop, *batches)
    for number, sent in enumerate(batches):
        arrival = hop.inlet.receive()
        assert arrival.sequence == number
        assert all(torch.equal(got, one) for got, one in zip(arrival.tensors, sent, strict=True))
        assert arrival.start_s is None or arrival.start_s <= arrival.end_s <= time.monotonic()
        arrival.release()
    thread.join()


@pytest.mark.parametrize(
    "tensor",
    [
        torch.randn(2, 3, 4).permute(2, 0, 1), torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        torch.randn(4, 6)[:, ::2], torch.arange(5, dtype=torch.int64), torch.randn(3).to(torch.bfloat16),
        torch.tensor(2.5), torch.randn(2, 3) > 0,
    ],
    ids=["permuted", "channels last", "gaps", "int64", "bfloat16", "scalar", "bool"],
)  # fmt: skip
def test_a_tensor_keeps_its_values_dtype_shape_and_order_of_dimensions(hop: Hop, tensor: torch.Tensor) -> None:
    thread = sending(hop, (tensor,))
    (got,) = hop.inlet.receive().tensors
    thread.join()
    assert got.dtype == tensor.dtype
    assert got.shape == tensor.shape
    assert torch.equal(got, tensor)
    if tensor.is_contiguous() or tensor.numel() == tensor.untyped_storage().nbytes() // tensor.itemsize:
        assert got.stride() == tensor.stride()


def test_what_was_sent_may_be_overwritten_when_send_returns(hop: Hop) -> None:
    tensor = torch.ones(200_000)

    def send() -> None:
        hop.outlet.send(0, (tensor,))
        tensor.fill_(2.0)

    thread = threading.Thread(target=send)
    thread.start()
    arrival = hop.inlet.receive()
    thread.join()
    assert bool((arrival.tensors[0] == 1.0).all())


def test_what_arrived_may_be_changed_without_reaching_the_sender(hop: Hop) -> None:
    tensor = torch.ones(1000)
    thread = sending(hop, (tensor,))
    hop.inlet.receive().tensors[0].zero_()
    thread.join()
    assert bool((tensor == 1.0).all())


def test_a_batch_that_is_held_stays_as_it_is_while_others_come(hop: Hop) -> None:
    batches = [(torch.full((100, 100), float(number)), torch.arange(number, number + 3)) for number in range(8)]
    thread = sending(hop, *batches)
    held = [hop.inlet.receive() for _ in range(3)]
    held.pop(1).release()
    held += [hop.inlet.receive() for _ in range(5)]
    for arrival in held:
        assert all(map(torch.equal, arrival.tensors, batches[arrival.sequence]))
        arrival.release()
    thread.join()


def test_what_is_done_to_a_tensors_shape_in_place_is_gone_in_the_next_batch(hop: Hop) -> None:
    thread = sending(hop, *[(torch.arange(12.0).reshape(3, 4),)] * 4)
    for _ in range(4):
        arrival = hop.inlet.receive()
        (tensor,) = arrival.tensors
        assert torch.equal(tensor, torch.arange(12.0).reshape(3, 4))
        assert not tensor.requires_grad
        tensor.t_().unsqueeze_(0).requires_grad_()
        del tensor
        arrival.release()
    thread.join()


def test_batches_of_other_tensors_in_between_arrive_as_they_are(hop: Hop) -> None:
    # All as long as one another, so that memory of one would do for the next.
    kinds = [torch.arange(24).reshape(4, 6), torch.arange(24).reshape(6, 4).t(), torch.arange(48, dtype=torch.int32)]
    batches = [(kind + number,) for _ in range(2) for kind in kinds for number in range(2)]
    thread = sending(hop, *batches)
    held: list[Arrival] = []
    for (sent,) in batches:
        held.append(hop.inlet.receive())
        (got,) = held[-1].tensors
        assert got.dtype == sent.dtype
        assert got.stride() == sent.stride()
        assert torch.equal(got, sent)
        if len(held) == 2:  # more memory of the kind that ends than one batch of the next takes
            held.pop().release()
            held.pop().release()
    thread.join()


def test_memory_that_was_released_is_received_into_again_and_what_is_held_is_not() -> None:
    with tcp_hop() as hop:
        thread = sending(hop, *[(torch.ones(1000),)] * 4)
        first, second = hop.inlet.receive(), hop.inlet.receive()
        places = [arrival.tensors[0].data_ptr() for arrival in (first, second)]
        first.release()
        third, fourth = hop.inlet.receive(), hop.inlet.receive()
        assert third.tensors[0].data_ptr() == places[0]
        assert fourth.tensors[0].data_ptr() not in places
        thread.join()


def test_no_more_released_memory_is_kept_than_was_asked_for() -> None:
    def rooms() -> int:
        gc.collect()
        return sum(type(held) is Room for held in gc.get_objects())

    before = rooms()
    with tcp_hop() as hop:
        thread = sending(hop, *[(torch.ones(1000),)] * 5)
        arrivals = [hop.inlet.receive() for _ in range(5)]
        assert rooms() == before + 5
        while arrivals:
            arrivals.pop().release()
        assert rooms() == before + 2
        thread.join()


@pytest.mark.parametrize("how", ["outlet.shut_down", "outlet.close", "inlet.shut_down"])
def test_a_receiver_that_waits_is_woken_when_either_end_goes(hop: Hop, how: str) -> None:
    end, _, action = how.partition(".")
    timer = threading.Timer(0.1, getattr(getattr(hop, end), action))
    timer.start()
    start_s = time.monotonic()
    with pytest.raises(PeerGoneError):
        hop.inlet.receive()
    assert time.monotonic() - start_s < 5
    timer.join()
    with pytest.raises(PeerGoneError):
        hop.inlet.receive()


def test_a_sender_learns_that_the_receiver_is_gone(hop: Hop) -> None:
    hop.inlet.shut_down()
    batch = (torch.zeros(100_000),)

    def send_many() -> None:
        for number in range(100):
            hop.outlet.send(number, batch)

    with pytest.raises(PeerGoneError):
        send_many()


def test_a_batch_longer_than_was_agreed_is_refused(hop: Hop) -> None:
    thread = sending(hop, (torch.zeros(LIMIT_BYTES // 4 + 1),))
    with pytest.raises(ProtocolError, match=r"at most|expected"):
        hop.inlet.receive()
    hop.inlet.shut_down()
    thread.join(5)
    assert not thread.is_alive()


def test_shutting_down_again_is_harmless_and_what_is_said_of_sockets_is_numbers_or_nothing(hop: Hop) -> None:
    for size in (hop.outlet.buffer_bytes, hop.inlet.buffer_bytes):
        assert size is None or size > 0
    assert isinstance(hop.outlet.tcp_info(), dict)
    for end in (hop.outlet, hop.inlet):
        end.shut_down()
        end.shut_down()


def link(rate_bps: float, delay_s: float, **changes: float) -> Link:
    return Link(
        schema_version=1, name="test", rate_bps=rate_bps, one_way_delay_s=delay_s, return_rate_bps=rate_bps,
        return_delay_s=0.0, header_bytes=66, **changes,
    )  # fmt: skip


@pytest.mark.timed
def test_a_link_in_memory_takes_bytes_over_rate_and_then_its_delay() -> None:
    exchange = MemoryExchange()
    exchange.shape({("A", "B"): link(8e6, 0.05)})
    inlet = exchange.inlet("p", 1, LIMIT_BYTES)
    outlet = exchange.outlet(address("A", "B"), "p", 1)
    batch = (torch.zeros(144_800, dtype=torch.uint8),)  # 100 segments of 1448 bytes, 66 of header each: 0.1514 s
    returned_s: list[float] = []

    def send() -> None:
        for number in range(3):
            outlet.send(number, batch)
            returned_s.append(time.monotonic())

    start_s = time.monotonic()
    thread = threading.Thread(target=send)
    thread.start()
    arrivals_s = [inlet.receive().end_s - start_s for _ in range(3)]
    thread.join()
    for number, (arrival_s, left_s) in enumerate(zip(arrivals_s, returned_s, strict=True), start=1):
        assert number * 0.1514 + 0.05 <= arrival_s < number * 0.1514 + 0.05 + 0.03
        assert number * 0.1514 <= left_s - start_s < number * 0.1514 + 0.03


def test_a_batch_in_memory_begins_to_arrive_when_the_one_before_was_taken() -> None:
    exchange = MemoryExchange()
    inlet = exchange.inlet("p", 1, LIMIT_BYTES)
    outlet = exchange.outlet(address("A", "B"), "p", 1)
    for number in range(2):  # both are there at once, before anybody takes the first
        outlet.send(number, (torch.zeros(10, dtype=torch.uint8),))
    first, second = inlet.receive(), inlet.receive()
    assert first.start_s is not None
    assert first.start_s < first.end_s == second.start_s < second.end_s


def test_a_link_in_memory_has_nothing_drawn_and_no_queue() -> None:
    for changes in ({"loss": 0.1}, {"jitter_s": 0.01}, {"limit_bytes": 10_000}):
        with pytest.raises(BadUsageError, match="use --backend tcp"):
            MemoryExchange().shape({("A", "B"): link(8e6, 0.05, **changes)})


def test_a_stage_that_waits_for_nothing_in_memory_is_not_reached() -> None:
    with pytest.raises(HwrunError, match="stage 1 of pipeline p waits for nothing here"):
        MemoryExchange().outlet(address("A", "B"), "p", 1)


def test_rpc_is_not_joined_where_other_hosts_reach_it_unless_the_network_is_trusted() -> None:
    with pytest.raises(HwrunError, match=r"unpickles, and so runs, whatever reaches its port.*--trust-network"):
        RpcMember(reach="loopback").join("A", 0, 1, "file:///nowhere", "10.99.0.1")


def test_rpc_meets_nobody_at_an_address_unless_the_network_is_trusted() -> None:
    with pytest.raises(HwrunError, match=r"got a rendezvous at tcp://127\.0\.0\.1:1, expected a file.*--trust-network"):
        RpcMember(reach="loopback").join("A", 0, 1, "tcp://127.0.0.1:1", "127.0.0.1")


def test_a_worker_that_others_can_ask_joins_no_group_not_even_on_loopback() -> None:
    with pytest.raises(HwrunError, match=r"others than its user can give orders to.*unpickles.*--trust-network"):
        RpcMember(reach="nobody").join("A", 0, 1, "file:///nowhere", "127.0.0.1")


def test_rpc_needs_an_interface_of_that_address() -> None:
    with pytest.raises(HwrunError, match=r"no interface of this host has the address 127\.9\.9\.9"):
        RpcMember(reach="loopback").join("A", 0, 1, "file:///nowhere", "127.9.9.9")


def test_a_torch_without_rpc_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed.rpc, "is_available", lambda: False)
    with pytest.raises(HwrunError, match="built without"):
        RpcMember(reach="loopback").join("A", 0, 1, "file:///nowhere", "127.0.0.1")


JOIN = """
import sys
from hwrun.backends import rpc
from hwrun.errors import HwrunError
rpc._JOIN_LIMIT_S = float(sys.argv[1])
try:
    rpc.RpcMember(reach="network").join(f"host{sys.argv[2]}", int(sys.argv[2]), 2, sys.argv[3], "127.0.0.1")
    print("joined")
except HwrunError as error:
    print(error)
import os; os._exit(0)  # torch would wait for the other member
"""


def joining(limit_s: float, rank: int, rendezvous: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", JOIN, str(limit_s), str(rank), rendezvous]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def test_members_on_a_trusted_network_meet_at_an_address(member: RpcMember) -> None:
    rendezvous = f"tcp://127.0.0.1:{free_port()}"
    members = [joining(60, rank, rendezvous) for rank in (0, 1)]
    assert [one.communicate(timeout=120)[0] for one in members] == ["joined\n", "joined\n"]


MEET_TWICE = """
import sys, time
from hwrun.backends import rpc
member = rpc.RpcMember(reach="network")
for rendezvous in sys.argv[1:]:
    start_s = time.monotonic()
    member.join("host0", 0, 2, rendezvous, "127.0.0.1")
    print(time.monotonic() - start_s, flush=True)
    sys.stdin.readline()
import os; os._exit(0)
"""


def test_a_member_that_was_started_again_is_met_at_once(member: RpcMember, tmp_path: Path) -> None:
    first, second = (f"file://{tmp_path}/{name}" for name in ("first", "second"))
    command = [sys.executable, "-c", MEET_TWICE, first, second]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as stays:
        assert stays.stdin is not None
        assert stays.stdout is not None
        assert joining(60, 1, first).communicate(timeout=120)[0] == "joined\n"
        assert float(stays.stdout.readline()) < 60
        print(file=stays.stdin, flush=True)
        assert joining(60, 1, second).communicate(timeout=120)[0] == "joined\n"
        # The other one takes some seconds to load torch; members that count unlike wait for as long as they may.
        assert float(stays.stdout.readline()) < rpc._JOIN_LIMIT_S - 5
        print(file=stays.stdin, flush=True)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_member_that_does_not_come_is_given_up_in_time(member: RpcMember, rank: int) -> None:
    alone = joining(1, rank, f"tcp://127.0.0.1:{free_port()}")
    said, _ = alone.communicate(timeout=120)  # torch's own limit is half an hour
    assert re.match(r"backend rpc: the group did not come together: .*tim", said, re.IGNORECASE)


@dataclass
class Asked:
    after_s: float
    problem: str

    def join_rpc(self, *_: object) -> None:
        time.sleep(self.after_s)
        raise HwrunError(self.problem)


def test_the_first_that_cannot_join_says_why_and_not_those_that_waited_for_it() -> None:
    members = [Asked(0.3, "nobody came"), Asked(0.0, "no such interface")]
    with pytest.raises(HwrunError, match="no such interface"):
        join_group([(one, "127.0.0.1") for one in members], "tcp://127.0.0.1:1")  # type: ignore[misc]


def test_a_worker_in_no_group_says_so() -> None:
    with pytest.raises(HwrunError, match="in no group"):
        RpcMember(reach="loopback").inlet("p", 1, LIMIT_BYTES)


def test_a_call_to_a_stage_that_is_not_deployed_names_it(member: RpcMember) -> None:
    with pytest.raises(PeerGoneError, match="stage 3 of pipeline q is not deployed here"):
        member.outlet("rpc:A", "q", 3).send(0, (torch.zeros(3),))
