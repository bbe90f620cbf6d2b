"""Workers started, asked after and ended on hosts, over a real sshd where there is one."""

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from hwrun.commands.testbed_options import _described, show_reports
from hwrun.errors import BadUsageError, HwrunError, PeerGoneError
from hwrun.machine import conditions
from hwrun.remote import fleet, resident
from hwrun.remote.lab_file import LabHost, TlsPaths, read_lab
from hwrun.remote.resident import Ask, Start, Stop, WorkerSettings, answer, began, read_request
from hwrun.remote.ssh import command_line
from hwrun.wire.admission import Credentials
from hwrun.wire.authentication import new_token
from tests.hwrun.lab import Lab
from tests.hwrun.sshd import MISSING, SSHD, Sshd, free_port
from tests.hwrun.test_worker import CREDENTIALS, RunningWorker

needs_sshd = pytest.mark.skipif(SSHD is None, reason=MISSING)


@pytest.fixture(scope="module")
def sshd(tmp_path_factory):
    running = Sshd(tmp_path_factory.mktemp("sshd"))
    yield running
    running.close()


@needs_sshd
def test_up_status_down_over_ssh_are_idempotent_and_keep_the_token_off_every_command_line(sshd, tmp_path, capsys):
    lab = Lab(tmp_path, [sshd.login(), sshd.login()])
    code, out, err = lab.run("status", capsys)
    assert code == 1
    assert err.count("no worker runs; start it with: hwrun up") == 2
    code, out, err = lab.run("up", capsys)
    try:
        assert (code, err) == (0, "")
        assert "h1: started, process" in out
        assert "answers at 127.0.0.2:" in out
        first = lab.process_ids(capsys)
        assert all(first)
        assert lab.run("up", capsys)[0] == 0
        assert lab.process_ids(capsys) == first
        # The ssh sessions are over; the workers have sessions of their own, and no parent that would take them along.
        assert all(os.getsid(pid) == pid for pid in first)
        shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, check=True).stdout
        environments = b"".join(Path(f"/proc/{pid}/environ").read_bytes() for pid in first)
        log = (tmp_path / "there/h1.log").read_bytes()
        for place in (shown, environments, log, (tmp_path / "there/h1.json").read_bytes()):
            assert lab.token not in place
        assert b"ready: control 127.0.0.1:" in log
        assert (tmp_path / "there/h1.token").stat().st_mode & 0o777 == 0o600
    finally:
        code, out, err = lab.run("down", capsys)
    assert (code, err) == (0, "")
    assert "h2: stopped" in out
    assert not any(began(pid) for pid in first)
    assert not (tmp_path / "there/h1.token").exists()
    code, out, err = lab.run("down", capsys)
    assert (code, out.count("was not running")) == (0, 2)


@needs_sshd
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [("user_key", "host_key", "Permission denied"), ('"-m"', '"-c"', "NameError")],
    ids=["key", "command"],
)
def test_a_login_or_command_that_does_not_work_is_an_error_with_the_host_named(
    sshd, tmp_path, capsys, old, new, message
):
    lab = Lab(tmp_path, [sshd.login()])
    lab.path.write_text(lab.text.replace(old, new, 1))
    code, out, err = lab.run("up", capsys)
    assert (code, out) == (1, "h1: not reached\n")
    assert err.startswith("hwrun: h1: ")
    assert message in err


@needs_sshd
def test_an_unknown_host_key_and_a_command_that_is_not_there_say_what_to_do(sshd, tmp_path, capsys):
    lab = Lab(tmp_path, [sshd.login()])
    empty = tmp_path / "nobody_known"
    empty.touch()
    lab.path.write_text(lab.text.replace(str(sshd.known_hosts), str(empty)))
    code, _, err = lab.run("status", capsys)
    assert code == 1
    assert "Host key verification failed" in err
    assert f"run `ssh -p {sshd.port} " in err
    lab.path.write_text(lab.text.replace('command = ["env"', 'command = ["no-such-hwrun"'))
    code, _, err = lab.run("status", capsys)
    assert code == 1
    assert "h1: no-such-hwrun" in err
    assert "set command to where hwrun is" in err


def test_a_host_without_ssh_is_this_machine_and_a_port_in_use_is_reported_from_its_log(tmp_path, capsys):
    lab = Lab(tmp_path, [None])
    testbed = read_lab(lab.path)
    assert command_line(testbed, testbed.hosts[0])[-1] == "resident"
    with socket.create_server(("127.0.0.1", testbed.hosts[0].control_port)):
        code, out, err = lab.run("up", capsys)
    assert code == 1
    assert "h1: ended with code 2 before it was ready" in out
    assert "cannot be bound: Address already in use" in err
    assert not (tmp_path / "there/h1.token").exists()


def test_a_token_that_others_may_read_is_not_handed_out(tmp_path, capsys):
    lab = Lab(tmp_path, [None])
    (tmp_path / "token").chmod(0o644)
    code, _, err = lab.run("up", capsys)
    assert code == 2
    assert "chmod 600" in err


@pytest.fixture
def settings(tmp_path):
    """Of a worker that a test starts from its own process, and so has to wait for once it has ended."""
    return WorkerSettings(
        name="w",
        folder=str(tmp_path),
        listen=f"127.0.0.1:{free_port()}",
        data_listen=f"127.0.0.1:{free_port()}",
        threads=1,
    )


@pytest.fixture
def sleeper(monkeypatch):
    """Stands in for a worker, which takes seconds to start."""
    code = "import time; print('ready: control here', flush=True); time.sleep(60)"
    monkeypatch.setattr(resident, "_command", lambda place: [sys.executable, "-c", code])


def test_a_worker_is_started_on_what_the_testbed_file_says_it_computes_on(settings):
    words = resident._command(resident._Place(msgspec.structs.replace(settings, compute_on="cuda")))
    assert words[words.index("--device") + 1] == "cuda"
    assert "--device" not in resident._command(resident._Place(settings))


def test_a_running_worker_is_left_alone_and_what_differs_is_named(settings, sleeper):
    token = new_token().decode()
    started = answer(Start(settings, token))
    try:
        assert (started.what, started.failed) == ("started", False)
        again = answer(Start(settings, token))
        assert (again.what, again.pid, again.differs) == ("was running already", started.pid, ())
        assert again.uptime_s >= 0
        other = answer(Start(msgspec.structs.replace(settings, threads=2), "another token of some length"))
        assert other.failed
        assert other.pid == started.pid
        assert other.differs == (
            "threads: it runs with 1, asked is 2",
            "token: another than the testbed file's",
        )
    finally:
        assert answer(Stop(settings)).what == "stopped"
    assert began(started.pid) is None
    os.waitpid(started.pid, 0)


def test_what_a_running_worker_has_otherwise_is_said_once_with_what_to_do(settings, monkeypatch):
    tls = TlsPaths(cert="c.pem", key="c.key", ca="ca.pem")
    started = resident._Started(pid=1, began="then", settings=msgspec.structs.replace(settings, tls=tls), versions={})
    differs = tuple(resident._differences(started, settings, {}))
    assert differs == ("tls: it runs with cert c.pem, key c.key, ca ca.pem, asked is none",)
    own = resident.alike_versions()
    state = resident.State(hostname="x", versions=own, what="was running already", differs=differs, failed=True)
    monkeypatch.setattr(fleet, "ask_host", lambda lab, host, request: state)
    report = fleet._report(None, LabHost(name="h1", address="127.0.0.1", device="d"), Ask(settings), None)
    assert report.problems == (f"{differs[0]}; to have it so: hwrun down, then hwrun up",)


def test_a_worker_that_could_not_be_remembered_is_ended(settings, sleeper, monkeypatch):
    pids = []

    def full(place, started):
        pids.append(started.pid)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(resident._Place, "keep", full)
    with pytest.raises(HwrunError, match="No space left on device; give another as the host's folder"):
        answer(Start(settings, new_token().decode()))
    assert began(pids[0]) is None
    assert not (Path(settings.folder) / "w.token").exists()


def test_a_host_that_ssh_does_not_reach_still_has_its_worker_asked(settings, tmp_path, monkeypatch):
    def unreachable(lab, host, request):
        raise PeerGoneError("host h1: ssh: connect to host x: Connection refused")

    monkeypatch.setattr(fleet, "ask_host", unreachable)
    worker = RunningWorker(tmp_path)
    host = LabHost(name="h1", address=worker.control.host, device="d", control_port=worker.control.port)
    there = fleet._report(None, host, Ask(settings), CREDENTIALS)
    worker.stop()
    gone = fleet._report(None, host, Ask(settings), CREDENTIALS)
    assert there.problems == gone.problems == ("ssh: connect to host x: Connection refused",)
    assert _described(there) == f"not reached, but answers at {host.control}, process {os.getpid()}"
    assert _described(gone) == "not reached"


@pytest.mark.parametrize("request_of", [Ask, lambda settings: Start(settings, new_token().decode())], ids=["ask", "up"])
def test_a_worker_that_something_else_started_is_left_alone_and_all_is_well(
    settings, tmp_path, monkeypatch, request_of, capsys
):
    asked = []

    def ask(lab, host, request):
        asked.append(request)
        return answer(request)

    monkeypatch.setattr(fleet, "ask_host", ask)
    worker = RunningWorker(tmp_path / "worker")
    host = LabHost(name="h1", address=worker.control.host, device="d", control_port=worker.control.port)
    idle = fleet._report(None, host, request_of(settings), CREDENTIALS)
    orchestrator = worker.client()
    busy = fleet._report(None, host, request_of(settings), CREDENTIALS)
    orchestrator.close()
    worker.stop()
    assert asked == [Ask(settings)] * 2
    assert show_reports([idle, busy]) == 0
    at = f"h1: answers at {host.control}"
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{at}, process {os.getpid()}, not started by hwrun up, protocol ")
    assert second.startswith(f"{at}, busy with an orchestrator, not started by hwrun up, protocol ")


def test_what_answers_otherwise_than_a_worker_of_ours_is_not_said_to_be_no_worker(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(fleet, "ask_host", lambda lab, host, request: answer(request))
    worker = RunningWorker(tmp_path / "worker", credentials=Credentials(b"another token, as long as it must be"))
    host = LabHost(name="h1", address=worker.control.host, device="d", control_port=worker.control.port)
    (problem,) = fleet._report(None, host, Ask(settings), CREDENTIALS).problems
    worker.stop()
    assert problem.startswith(f"no worker runs that hwrun up started, and {host.control}: ")
    assert "same token file" in problem
    (problem,) = fleet._report(None, host, Ask(settings), CREDENTIALS).problems
    assert problem == "no worker runs; start it with: hwrun up"


def test_a_host_knows_of_a_worker_that_it_was_asked_to_start_and_that_has_ended_until_it_is_told_to_end(
    settings, sleeper, monkeypatch
):
    monkeypatch.setattr(fleet, "ask_host", lambda lab, host, request: answer(Ask(settings)))
    host = LabHost(name="h1", address="127.0.0.1", device="d")
    started = answer(Start(settings, new_token().decode()))
    assert not fleet.has_ended(None, host, started.pid)
    os.kill(started.pid, signal.SIGKILL)
    os.waitpid(started.pid, 0)
    assert answer(Ask(settings)).ended_pid == started.pid
    assert fleet.has_ended(None, host, started.pid)
    assert not fleet.has_ended(None, host, os.getpid())  # of whom it knows nothing
    answer(Stop(settings))
    assert not fleet.has_ended(None, host, started.pid)


def test_only_the_process_that_was_started_is_ended_never_another_that_has_its_number(settings, sleeper, tmp_path):
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        time.sleep(0.05)  # a process's beginning is known to a hundredth of a second
        started = answer(Start(settings, new_token().decode()))
        kept = msgspec.json.decode((tmp_path / "w.json").read_bytes())
        os.kill(started.pid, signal.SIGKILL)
        os.waitpid(started.pid, 0)
        (tmp_path / "w.json").write_bytes(msgspec.json.encode({**kept, "pid": other.pid}))
        assert answer(Ask(settings)).pid is None
        assert answer(Stop(settings)).what == "was not running"
        time.sleep(0.1)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_worker_that_ignores_being_asked_is_ended_by_force(settings, monkeypatch):
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        " print('ready: control here', flush=True); time.sleep(60)"
    )
    monkeypatch.setattr(resident, "_command", lambda place: [sys.executable, "-c", code])
    monkeypatch.setattr(resident, "_END_LIMIT_S", 0.3)
    started = answer(Start(settings, new_token().decode()))
    assert answer(Stop(settings)).what == "stopped"
    assert began(started.pid) is None
    os.waitpid(started.pid, 0)


def test_the_identity_of_the_code_is_of_all_of_it(monkeypatch):
    sources = conditions._sources()
    assert {"hwrun/worker.py", "hwrun/wire/frames.py", "hwrun/machine/conditions.py", "paretosim/link.py"} <= set(
        sources
    )
    own = conditions._code_identity()
    monkeypatch.setattr(conditions, "_sources", lambda: sources | {"hwrun/more.py": sources["hwrun/worker.py"]})
    assert conditions._code_identity() != own


def test_a_worker_of_other_code_is_told_apart(settings, sleeper, monkeypatch):
    token = new_token().decode()
    started = answer(Start(settings, token))
    try:
        own = resident.alike_versions()
        monkeypatch.setattr(resident, "alike_versions", lambda: {**own, "code": "another"})
        assert answer(Ask(settings)).differs == (f"code: it runs {own['code']}, installed is another",)
    finally:
        answer(Stop(settings))
        os.waitpid(started.pid, 0)


def test_what_is_no_request_is_refused():
    with pytest.raises(BadUsageError, match="of the same version"):
        read_request(b"\x80\x04\x95pickled")
    with pytest.raises(BadUsageError, match="of the same version"):
        read_request(b'{"type": "Start", "command": "rm"}')


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_a_process_is_known_by_when_it_began_on_any_system(monkeypatch, platform):
    monkeypatch.setattr(sys, "platform", platform)
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    start = began(process.pid)
    assert start is not None
    assert start == began(process.pid)
    assert start != began(os.getpid())
    assert 0 <= resident._uptime_s(start) < 60
    process.kill()
    while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
    assert began(process.pid) is None  # a zombie runs no more
    process.wait()
    process.stdin.close()
    assert began(process.pid) is None
