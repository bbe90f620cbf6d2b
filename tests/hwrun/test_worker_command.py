"""`hwrun worker`: whom it will listen to, and how it starts and ends."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from hwrun.cli import main
from hwrun.wire.address import Address
from hwrun.wire.admission import Credentials
from hwrun.wire.control import RequestFailedError
from hwrun.wire.sockets import dial
from hwrun.worker_client import WorkerClient


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--listen", "0.0.0.0:7070"], "without --token-file"),
        (["--listen", "127.0.0.1:0", "--data-listen", "0.0.0.0:0"], "--data-listen: got 0.0.0.0:0"),
        (["--listen", "127.0.0.1:0", "--data-listen", "unix:/tmp/x"], "expected HOST:PORT"),
        (["--listen", "nonsense"], "expected HOST:PORT"),
        (["--threads", "0"], "--threads: got 0"),
        (["--cores", "4096"], "cores: got 4096"),
        (["--threads", "4096"], "--threads: got 4096, at most"),
        (["--token-file", "/no/such/file"], "cannot be read: No such file"),
    ],
)
def test_what_it_cannot_or_must_not_do_is_bad_usage(options, message, capsys):
    assert main(["worker", *options]) == 2
    assert message in capsys.readouterr().err


def test_tls_files_go_together_and_a_port_in_use_is_named(tmp_path, capsys, monkeypatch):
    assert main(["worker", "--tls-cert", str(tmp_path / "cert")]) == 2
    assert "--tls-key, --tls-ca: is missing, expected all of" in capsys.readouterr().err
    monkeypatch.setattr("hwrun.commands.worker.restart_if_unsteady", lambda threads: None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert main(["worker", "--listen", address, "--cache", str(tmp_path)]) == 2
    assert f"listen: {address} cannot be bound: Address already in use; give another" in capsys.readouterr().err


@pytest.mark.slow
def test_it_says_when_it_is_ready_and_ends_when_asked_leaving_no_socket(tmp_path):
    path = tmp_path / "control"
    argv = [sys.executable, "-m", "hwrun.cli", "worker", "--listen", f"unix:{path}", "--cache", str(tmp_path / "c")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        try:
            assert line.startswith(f"ready: control unix:{path}, data 127.0.0.1:")
            assert path.stat().st_mode & 0o077 == 0
            dial(Address(path=str(path))).close()
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=20) == 0
        finally:
            process.kill()
    assert not path.exists()


@pytest.mark.slow
def test_started_by_hand_it_is_steady_says_what_it_runs_under_and_joins_no_group(tmp_path):
    argv = [sys.executable, "-m", "hwrun.cli", "worker", "--listen", "127.0.0.1:0", "--cache", str(tmp_path)]
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "OMP_"))}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=bare) as process:
        try:
            address = process.stdout.readline().split()[2].removesuffix(",")
            client = WorkerClient.dial("w", Address.parse(address), Credentials(b""))
            found = client.welcome.conditions
            assert "freed memory kept" in found["allocator"]
            assert found["threads"] == 1
            assert {"throttled", "frequency_hz", "temperature_c", "governor"} <= found.keys()
            with pytest.raises(RequestFailedError, match=r"others than its user can give orders to.*--trust-network"):
                client.join_rpc(0, 1, f"file://{tmp_path}/group", "127.0.0.1")
            client.close()
        finally:
            process.kill()
