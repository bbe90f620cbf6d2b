"""Control messages: what an orchestrator asks of a worker, and what it is told. JSON in bounded frames.

Requests are answered one by one, in order; `StageFailed` may come at any time. A dispatch is no request: it is a
bare DISPATCH frame with the batch's number, and is never answered.
"""

from __future__ import annotations

from typing import Literal, TypeVar

import msgspec

from hwrun.doctor.facts import HostFacts
from hwrun.errors import HwrunError, PeerGoneError, ProtocolError
from hwrun.records import BackendName, ComputeDevice, LinkMeasured, Medium, Phases, Scalar, WorkerKind, WorkerSample
from hwrun.wire.buffer_pool import BufferPool
from hwrun.wire.connection import Connection, Message
from hwrun.wire.frames import Kind

# The largest message is a cell's phases: about 250 bytes a batch.
CONTROL_LIMIT_BYTES = 8 * 2**20
# No message of a plan may be longer, whatever an orchestrator asks for. vgg16's largest at batch 8 is 103 MB.
MAX_LIMIT_BYTES = 2 * 2**30
MAX_QUEUE_DEPTH = 64
# Seeds are below it, as those of predictions are: a signed number of 64 bits holds them.
MAX_SEED = 2**63
# A piece of weights: large enough to be fast, small enough to hold twice.
CHUNK_BYTES = 2**20


class Hello(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """The orchestrator's first message: what must be alike on both sides."""

    versions: dict[str, str]


class Welcome(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """The worker's answer: who it is, at which port it takes data connections, and what it can compute on.

    `qdiscs` are those of its host's interfaces as found now, in words; empty where its peers are in its own process.
    """

    versions: dict[str, str]
    pid: int
    data_port: int
    conditions: dict[str, Scalar]
    devices: tuple[ComputeDevice, ...]
    qdiscs: dict[str, str]


class Refused(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """The worker's answer where it will not serve; the connection then closes.

    `busy` where it would later: another orchestrator is there now.
    """

    reason: str
    busy: bool = False


class Ping(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Answered by Pong at once; times the control path, and compares the two clocks."""


class Pong(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """The worker's monotonic clock when it answered."""

    time_s: float


class MissingBlocks(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Which of these blocks does the worker's cache not hold?"""

    digests: tuple[str, ...]


class Missing(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Those it does not hold, and how much of each it has kept from a transfer that broke off."""

    digests: tuple[str, ...]
    held_bytes: tuple[int, ...]


class StoreBlock(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Followed by CHUNK frames of its bytes from `offset_bytes` to `size_bytes`; kept only if its hash is `digest`."""

    digest: str
    size_bytes: int
    offset_bytes: int


class DeployStage(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Become stage `position` of a pipeline, beside those of it that run here already.

    The first stage of another pipeline ends whatever was deployed before.

    `target_s` is the emulated stage's compute time, None where it computes for real; with `compute_each` an
    emulated stage computes every batch and then waits for its target. `limit_bytes` is the longest tensor
    payload of this plan. A stage with `keeps_input` is followed by one INPUT frame and runs on dispatch. `backend` is
    how batches come from the stage before, `workers` how the stage shares its time. With `cold_input` every batch
    comes on a connection of its own. `device` is what it computes on, None for the worker's own. Answered by Deployed.
    """

    pipeline: str
    position: int
    model: str
    first: int
    last: int
    digests: tuple[str, ...]
    batch: int
    seed: int
    target_s: float | None
    compute_each: bool
    keeps_input: bool
    limit_bytes: int
    queue_depth: int
    backend: BackendName = "tcp"
    workers: WorkerKind = "overlapped"
    cold_input: bool = False
    device: ComputeDevice | None = None


class Deployed(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """The stage is there: what it computes on, None where it computes nothing or only takes a device's time."""

    computes_on: str | None


class Connect(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Let stage `position` dial the next one (or the orchestrator's results) at `address`, and start working.

    An address says by its scheme which backend dials: `HOST:PORT` and `unix:PATH` are sockets. `cold` dials anew for
    every batch.
    """

    pipeline: str
    position: int
    address: str
    cold: bool = False


class JoinRpc(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Be member `rank` of a group of `size` for backend rpc, as hwrun/backends/rpc.py says; answered when all are."""

    name: str
    rank: int
    size: int
    rendezvous: str
    address: str


class ShapedPath(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a worker is to do to what it sends to these peers (`hwrun.shaping.setting`: Egress and Peer)."""

    peers: tuple[str, ...]
    rate_bps: int | None
    delay_s: float
    jitter_s: float
    loss: float
    limit_packets: int
    limiter: Literal["netem", "htb"] = "netem"


class ShapeLink(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Shape what the worker's own interface sends, instead of what was shaped before; answered by Shaped.

    It holds for `lease_s` after the last message of the orchestrator, and ends with the session. `except_ports` stay
    unshaped for peers that name no ports, and so does the worker's control port. `interface` is None for the one that
    leads to the peers.
    """

    paths: tuple[ShapedPath, ...]
    except_ports: tuple[int, ...] = ()
    interface: str | None = None
    lease_s: float = 60.0


class CheckShape(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Is what was shaped still so, and was it all the time? Answered by Shaped, or Failed with what was found."""


class UnshapeLink(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Take what was shaped away."""


class Shaped(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """What is set, read back from the kernel, as the lines of tc that would set it."""

    lines: tuple[str, ...]


class AskFacts(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """What is this host, as far as measurements depend on it? Takes a second of watching; answered by Facts."""


class Facts(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """What hwrun doctor judges."""

    facts: HostFacts


class ProbeLink(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Probe the path to the data listener at `address`, as hwrun/probing/probe.py does."""

    address: str
    medium: Medium
    pings: int
    bulk_bytes: int
    echo_s: float
    rested_s: float


class Probed(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """What the probe found."""

    measured: LinkMeasured


class Collect(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Hand over and forget what stage `position` recorded since the last time."""

    pipeline: str
    position: int


class Collected(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Phases by sequence number, TCP_INFO of the stage's sending socket, and its sockets' buffers (None without)."""

    phases: dict[int, Phases]
    tcp_info: dict[str, Scalar]
    send_buffer_bytes: int | None = None
    receive_buffer_bytes: int | None = None


class Watch(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Begin to sample this process and its host, or with `ending` stop; answered by Watched."""

    ending: bool


class Watched(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """The processor's clock at this moment, and at the end what was sampled."""

    clock: dict[str, Scalar]
    samples: tuple[WorkerSample, ...]


class TearDown(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Close the data connections and end the threads of every stage here. Weights stay cached."""

    pipeline: str


class Done(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """The request was carried out."""


class Failed(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """The request was not: why, for a person."""

    reason: str


class StageFailed(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Not an answer: a deployed stage broke down while working."""

    pipeline: str
    reason: str


class DataHello(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """First frame on a data connection: which pipeline, and the position of the stage that is dialled.

    The orchestrator's result listener is the position after the last stage's.
    """

    pipeline: str
    position: int


class BulkEnd(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """On a probing connection: the transfer is over; answered by BulkMeasured."""


class BulkMeasured(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Payload bits per second of the transfer at the receiver, over the second half.

    `unheld_bps` is from where in it nothing waited behind a lost segment.
    """

    goodput_bps: float | None
    unheld_bps: float | None


class ProbeEnded(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """The answer to a probe's Done: TCP_INFO and buffer sizes of the far socket."""

    tcp_info: dict[str, Scalar]


ControlMessage = (
    Hello | Welcome | Refused | Ping | Pong | MissingBlocks | Missing | StoreBlock | DeployStage | Deployed | Connect
    | JoinRpc | ProbeLink | Probed | Collect | Collected | TearDown | Done | Failed | StageFailed | DataHello
    | BulkEnd | BulkMeasured | ProbeEnded | Watch | Watched
    | ShapeLink | CheckShape | UnshapeLink | Shaped | AskFacts | Facts
)  # fmt: skip
_decoder: msgspec.json.Decoder[ControlMessage] = msgspec.json.Decoder(ControlMessage)
_Expected = TypeVar("_Expected")


class RequestFailedError(HwrunError):
    """A worker could not do what it was asked."""


class WorkerRefusedError(PeerGoneError):
    """A worker will not serve this orchestrator and closed the connection."""


class WorkerBusyError(WorkerRefusedError):
    """A worker serves another orchestrator now; it may be asked again later."""


def send_control(connection: Connection, message: ControlMessage) -> None:
    """Send one control message."""
    raw = msgspec.json.encode(message)
    if len(raw) > CONTROL_LIMIT_BYTES:
        raise ProtocolError(f"control: {type(message).__name__} takes {len(raw)} bytes, at most {CONTROL_LIMIT_BYTES}")
    connection.send(Kind.CONTROL, payload=(raw,))


def decode_control(message: Message) -> ControlMessage:
    """The control message in a frame.

    Raises
    ------
    ProtocolError : another kind of frame, or not a message of this protocol.
    """
    if message.header.kind is not Kind.CONTROL:
        raise ProtocolError(f"control: got a {message.header.kind.name} frame, expected CONTROL")
    try:
        return _decoder.decode(message.buffer)
    except msgspec.DecodeError as error:
        raise ProtocolError(f"control: {error}") from error


def receive_control(connection: Connection, pool: BufferPool, expected: type[_Expected]) -> _Expected:
    """The next frame, which must be an `expected`.

    Raises
    ------
    RequestFailedError : it is a Failed or Refused instead, with the peer's reason.
    ProtocolError : it is anything else.
    """
    message = connection.receive(pool, CONTROL_LIMIT_BYTES)
    decoded = decode_control(message)
    pool.give(message.buffer)
    return answered(decoded, expected, connection.peer)


def answered(decoded: ControlMessage, expected: type[_Expected], peer: str) -> _Expected:
    """`decoded` if it is an `expected`; a Failed or Refused becomes an error with the peer's reason."""
    if isinstance(decoded, expected):
        return decoded
    if isinstance(decoded, Refused) and decoded.busy:
        raise WorkerBusyError(f"{peer}: refused: {decoded.reason}")
    if isinstance(decoded, Refused):
        raise WorkerRefusedError(f"{peer}: refused: {decoded.reason}")
    if isinstance(decoded, Failed | StageFailed):
        raise RequestFailedError(f"{peer}: {decoded.reason}")
    raise ProtocolError(f"{peer}: got {type(decoded).__name__}, expected {expected.__name__}")
