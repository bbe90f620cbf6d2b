"""`hwrun probe`: between workers by address, and what it prints."""

import io
import json
import threading
from contextlib import redirect_stderr, redirect_stdout

import pytest

from hwrun.cli import main
from hwrun.models.weights import WeightStore
from hwrun.probing import probe
from hwrun.probing.display import probe_document, quantile, show_probe
from hwrun.records.links import ClockExchange, LinkMeasured, RestedSample
from hwrun.wire.address import Address
from hwrun.wire.admission import Credentials
from hwrun.wire.sockets import listen
from hwrun.worker import Worker

TOKEN = b"t" * 32


@pytest.fixture
def two_workers(tmp_path):
    """Addresses of two workers on loopback, in threads of this process."""
    workers, threads, addresses = [], [], []
    for number in range(2):
        control, data = listen(Address(host="127.0.0.1")), listen(Address(host="127.0.0.1"))
        addresses.append("{}:{}".format(*control.getsockname()))
        worker = Worker(
            control, data, credentials=Credentials(TOKEN), store=WeightStore(tmp_path / str(number)), threads=1,
            log=lambda line: None,
        )  # fmt: skip
        workers.append(worker)
        threads.append(threading.Thread(target=worker.serve))
        threads[-1].start()
    yield addresses
    for worker in workers:
        worker.stop()
    for thread in threads:
        thread.join()


@pytest.fixture
def token_file(tmp_path):
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_bytes(TOKEN)
    return str(path)


@pytest.fixture(autouse=True)
def few_sizes(monkeypatch):
    monkeypatch.setattr(probe, "ECHO_SIZES_BYTES", (64, 4096, 262144))


def probed(*arguments):
    out, err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(["probe", *map(str, arguments)])
    out.flush()
    return code, out.buffer.getvalue().decode(), err.getvalue()


def test_from_here_to_a_worker_every_line_of_the_table_is_there(two_workers, token_file):
    code, out, err = probed(two_workers[0], "--token-file", token_file, "--pings", "8")
    assert code == 0, err
    assert f"here → {two_workers[0]}, network (loopback)" in out
    for line in ("round trip", "(n = 8)", "goodput", "a message costs", "a byte costs", "far clock", "256 KiB"):
        assert line in out
    assert max(map(len, out.splitlines())) <= 100


def test_two_workers_are_probed_there_and_back_with_every_raw_sample(two_workers, token_file):
    code, out, err = probed(*two_workers, "--token-file", token_file, "--json")
    assert code == 0, err
    document = json.loads(out)
    assert [(one["near"], one["far"]) for one in document["probes"]] == [
        tuple(two_workers), tuple(reversed(two_workers))
    ]  # fmt: skip
    for one in document["probes"]:
        assert len(one["measured"]["rtt_samples_s"]) == len(one["measured"]["clock"]) == 50
        assert [sample["size_bytes"] for sample in one["measured"]["echo"]] == [64, 4096, 262144]
        assert one["rtt_s"]["min"] <= one["rtt_s"]["median"] <= one["rtt_s"]["p95"] <= one["rtt_s"]["max"]
        assert one["per_message_s"] > 0
        assert {sample["pause_s"] for sample in one["measured"]["rested"]} == {0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2}
        assert abs(one["clock_offset_s"]) <= one["clock_offset_error_s"]  # both are this process


def test_hosts_of_a_testbed_file_are_probed_by_their_names(two_workers, token_file, tmp_path):
    lab = tmp_path / "lab.toml"
    hosts = "".join(
        f'[[hosts]]\nname = "{name}"\naddress = "127.0.0.1"\ndevice = "rpi4b"\ncontrol_port = {address.split(":")[1]}\n'
        f"data_port = {number}\n"  # what the worker says is what counts
        for number, (name, address) in enumerate(zip(("pi1", "pi2"), two_workers, strict=True), start=9001)
    )
    lab.write_text(f'token_file = "{token_file}"\n{hosts}')
    code, out, err = probed("pi1", "pi2", "--testbed", lab, "--json")
    assert code == 0, err
    assert [(one["near"], one["far"]) for one in json.loads(out)["probes"]] == [("pi1", "pi2"), ("pi2", "pi1")]
    for options, message in (
        (["pi3"], "pi3"),
        ([], "got no host of it to probe"),
        (["pi1", "--token-file", token_file], "whose file names its own"),
    ):
        code, _, err = probed(*options, "--testbed", lab)
        assert code == 2
        assert message in err


def test_the_brackets_of_an_address_are_not_read_as_markup(capsys):
    clock = (ClockExchange(sent_s=1.0, arrived_s=1.1, answered_s=1.1, returned_s=1.2),)
    measured = LinkMeasured(
        medium="network", rtt_samples_s=(0.001, 0.002), goodput_bps=None, probe_bytes=0, clock=clock
    )
    show_probe("here", "[fd77::11]:7070", "network", measured)
    assert "here → [fd77::11]:7070, network (network)" in capsys.readouterr().out


def test_how_much_later_a_message_comes_after_a_rest_is_said_in_a_line_and_in_json(capsys):
    clock = (ClockExchange(sent_s=1.0, arrived_s=1.1, answered_s=1.1, returned_s=1.2),)

    def measured(later_s):
        rested = tuple(
            RestedSample(pause_s=pause_s, size_bytes=64, round_trips_s=(2e-4 + later_s * pause_s / (pause_s + 0.06),))
            for pause_s in (0.0, 0.01, 0.05, 0.2)
        )
        return LinkMeasured(
            medium="veth", rtt_samples_s=(1e-4,), goodput_bps=None, probe_bytes=0, clock=clock, rested=rested
        )

    show_probe("A", "B", "unshaped", measured(7e-4))
    said = " ".join(capsys.readouterr().out.split())
    assert "of 100 ms a message comes 440 us later (700 us at most, half of it after 60 ms)" in said
    document = probe_document("A", "B", "unshaped", measured(7e-4))
    assert (document["resting_later_s"], document["resting_half_s"]) == (
        pytest.approx(7e-4, rel=0.01), pytest.approx(0.06, rel=0.01)
    )  # fmt: skip
    show_probe("A", "B", "unshaped", measured(0.0))
    assert "a message comes no later than without one" in capsys.readouterr().out
    assert probe_document("A", "B", "unshaped", measured(0.0))["resting_later_s"] is None


def test_no_time_for_the_sweep_of_sizes_is_said(two_workers, token_file):
    code, out, _ = probed(two_workers[0], "--token-file", token_file, "--echo-time", "0s")
    assert code == 0
    assert "64 B, 4 KiB, 256 KiB: no time left for them" in out
    assert "a message costs" not in out
    assert "after a rest" not in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["127.0.0.1:1", "--local"], "expected no worker's address with them"),
        (["127.0.0.1:1", "--link", "5mbit,0s"], "expected no worker's address with them"),
        (["a:1", "b:2", "c:3"], "got 3, expected one or two"),
        (["unix:/nowhere"], "expected HOST:PORT"),
        (["nonsense"], "expected HOST:PORT"),
        (["--pings", "1"], "--pings: got 1, expected 5 or more"),
        (["--echo-time", "1"], "--echo-time: got '1', expected a unit"),
        (["--echo-time", "1000s"], "--echo-time: got 1000s, expected 0s to 120s"),
        (["--link", "5mibt,0s"], "5mibt"),
    ],
)
def test_what_cannot_be_is_bad_usage(arguments, message):
    code, out, err = probed(*arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_a_wrong_token_or_nobody_there_is_a_failure_in_a_line(two_workers, tmp_path):
    other = tmp_path / "other"
    other.touch(mode=0o600)
    other.write_bytes(b"x" * 32)
    code, _, err = probed(two_workers[0], "--token-file", other)
    assert code == 1
    assert f"{two_workers[0]}: token: the peer refused ours" in err
    code, _, err = probed("127.0.0.1:1", "--token-file", other)
    assert code == 1
    assert "127.0.0.1:1: Connection refused, expected a worker that listens there" in err
    assert err.count("\n") == 1


def test_quantiles_are_samples():
    assert [quantile([1.0, 2.0, 3.0], share) for share in (0.0, 0.5, 0.95, 1.0)] == [1.0, 2.0, 3.0, 3.0]
