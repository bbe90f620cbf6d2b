"""A sweep over the hosts of a testbed file: real workers in processes of their own, on two loopback addresses."""

import json
import os
import signal
import time
from types import SimpleNamespace

import pytest

from hwrun.cli import main
from hwrun.commands.sweep import parsed
from hwrun.commands.sweep_conditions import sweep_plan
from hwrun.errors import BadUsageError, PeerGoneError
from hwrun.records import read_run
from hwrun.remote import workers as remote_workers
from hwrun.remote.lab_file import read_lab
from hwrun.remote.workers import RemoteRoute, RemoteWorkers
from hwrun.testbed import DataPath
from hwrun.wire import control
from hwrun.wire.address import Address
from tests.hwrun.lab import Lab
from tests.hwrun.sshd import SSHD, Sshd

SMALL = (
    "--model", "mobilenet_v2", "--batch", "1", "--mode", "single", "--repeats", "1", "--batches-per-cell", "2",
)  # fmt: skip


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """Two workers that are up, over ssh where there is an sshd, and the testbed file that they are of."""
    folder = tmp_path_factory.mktemp("lab")
    sshd = Sshd(tmp_path_factory.mktemp("sshd")) if SSHD else None
    lab = Lab(folder, [sshd.login() if sshd else None, None])
    assert main(["up", "--testbed", str(lab.path)]) == 0
    yield lab
    assert main(["down", "--testbed", str(lab.path)]) == 0
    if sshd:
        sshd.close()


def swept(lab, folder, *options):
    code = main(["sweep", "--testbed", str(lab.path), *SMALL, "-o", str(folder), *options])
    return code, read_run(folder)


@pytest.fixture(autouse=True)
def steady(monkeypatch):
    """The command would otherwise start itself again, and with it these tests."""
    monkeypatch.setattr("hwrun.commands.sweep.restart_if_unsteady", lambda threads: None)


def test_every_split_over_two_hosts_is_measured_and_computes_what_the_whole_does(running, tmp_path, capsys):
    code, run = swept(running, tmp_path / "run", "--splits", "0,10,21")
    shown = capsys.readouterr()
    assert code == 0, shown.err
    assert {cell.status for cell in run.cells} == {"done"}
    assert {cell.hosts for cell in run.cells} == {("h1", "h2")}
    assert all(cell.output_check.relative_difference < 1e-4 for cell in run.cells)
    assert all("x86-core" in cell.plan for cell in run.cells)
    assert (run.manifest.testbed["kind"], run.manifest.testbed["orchestrator_on"]) == ("remote", "h2")
    assert len(run.manifest.workers) == 2
    for path in (tmp_path / "run").iterdir():
        assert running.token not in path.read_bytes()
    assert "results are wanted on" not in shown.err
    assert main(["sweep", "--resume", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    running.path.write_text(running.text.replace('name = "h1"', 'name = "h1"\ncores = "0"'))
    assert main(["sweep", "--resume", str(tmp_path / "run")]) == 2
    running.path.write_text(running.text)
    assert "testbed h1.cores: the folder's is None, this one's '0'" in capsys.readouterr().err


def test_two_stages_on_one_host_and_results_from_another_host_than_this(running, tmp_path, capsys):
    code, run = swept(running, tmp_path / "run", "--splits", "15", "--hosts", "h1,h1")
    assert code == 0
    (cell,) = run.cells
    assert (cell.status, cell.hosts) == ("done", ("h1", "h1"))
    if SSHD:
        assert "results are wanted on h1 and taken on this machine" in capsys.readouterr().err


def test_three_stages_go_to_another_host_and_back(running, tmp_path):
    stages = "x86-core[0:7]+x86-core[7:14]+x86-core[14:21]"
    arguments = ["sweep", "--testbed", str(running.path), "--plan", f"mobilenet_v2@{stages}/b1/w-/tcp/f32"]
    arguments += ["--hosts", "h1,h2,h1", "--repeats", "1", "--batches-per-cell", "3", "-o", str(tmp_path / "run")]
    assert main(arguments) == 0
    (cell,) = read_run(tmp_path / "run").cells
    assert (cell.status, cell.hosts) == ("done", ("h1", "h2", "h1"))
    assert cell.output_check.bitwise_equal
    assert all(len(batch.stages) == 3 for batch in cell.subruns[0].batches)
    assert len(cell.links_measured) == 2


def test_a_doctor_asks_every_worker_of_the_testbed_about_its_host(running, tmp_path, capsys):
    code, out, _ = running.run("doctor", capsys)
    assert [line.partition(":")[0] for line in out.splitlines() if not line.startswith(" ")] == ["h1", "h2"]
    assert code == ("will spoil" in out.replace("nothing here will spoil", ""))
    found = json.loads(running.run("doctor", capsys, "--json")[1])
    assert [host["host"] for host in found["hosts"]] == ["h1", "h2"]
    (folder := tmp_path / "gone").mkdir()
    code, out, _ = Lab(folder, [None]).run("doctor", capsys)
    assert (code, "h1: not reached" in out, "fix: hwrun up" in out) == (1, True, True)
    with RemoteWorkers(read_lab(running.path), ("h1",), {}):
        code, out, _ = running.run("doctor", capsys)
    assert code == 1
    assert "serves another orchestrator" in out
    assert "fix: ask again when that is done" in out


def test_hosts_that_trust_their_network_call_one_another_where_others_say_what_lets_them(running, tmp_path, capsys):
    code, run = swept(running, tmp_path / "refused", "--splits", "15", "--backend", "rpc")
    assert code == 1
    assert run.cells[0].status == "skipped"
    assert "set trust_network in the testbed file" in run.cells[0].remedy
    (folder := tmp_path / "lab").mkdir()
    lab = Lab(folder, [None, None])
    # RPC takes the interface that an address is of, and lo has the first alone.
    lab.path.write_text(
        lab.text.replace("127.0.0.2", "127.0.0.1").replace("device =", "trust_network = true\ndevice =")
    )
    assert main(["up", "--testbed", str(lab.path)]) == 0
    try:
        code, run = swept(lab, tmp_path / "run", "--splits", "0,15", "--backend", "rpc", "--backend", "tcp")
    finally:
        assert main(["down", "--testbed", str(lab.path)]) == 0
    assert code == 0, capsys.readouterr().err
    assert [cell.status for cell in run.cells] == ["done"] * 4
    assert sum("/rpc/" in cell.plan for cell in run.cells) == 2
    assert all(cell.output_check.relative_difference < 1e-4 for cell in run.cells)


def test_a_worker_that_is_killed_is_up_again_for_the_next_cell(running, capsys, monkeypatch):
    # It was started by `hwrun up`, so nobody else restarts it, and nobody is waited for.
    monkeypatch.setattr(remote_workers, "_RESTART_LIMIT_S", 3600.0)
    lab = read_lab(running.path)
    with RemoteWorkers(lab, ("h1", "h2"), {}) as workers:
        first = workers.client("h1").welcome.pid
        os.kill(first, signal.SIGKILL)
        deadline_s = time.monotonic() + 10
        while workers.client("h1").gone is None:
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        assert "worker h1 is gone" in workers.deaths()
        kept = workers.client("h2")
        workers.revive()
        assert workers.client("h1").welcome.pid != first
        assert workers.client("h2") is kept
        assert workers.client("h1").request(control.Ping(), control.Pong)
        assert workers.deaths() == ""
        code, out, _ = running.run("status", capsys)
        assert (code, out.count("busy with an orchestrator")) == (0, 2)
    with RemoteWorkers(lab, ("h1",), {}) as workers:  # it noticed that the one before has left
        assert workers.hosts == ("h1",)


class Host:
    """A host whose worker has died, in its own time; dialling and starting it are what a sweep does."""

    def __init__(self, monkeypatch, lab, back_after_s):
        self.now_s, self.back_after_s, self.started_at_s = 0.0, back_after_s, None
        self.workers = RemoteWorkers(lab, ("h1",), {})
        self.workers._clients["h1"] = SimpleNamespace(
            gone="it died", close=lambda: None, welcome=SimpleNamespace(pid=4711)
        )
        self.known_to_have_ended = None
        monkeypatch.setattr(remote_workers, "time", SimpleNamespace(monotonic=lambda: self.now_s, sleep=self.sleep))
        monkeypatch.setattr(remote_workers.WorkerClient, "dial", self.dial)
        monkeypatch.setattr(remote_workers, "has_ended", lambda lab, host, pid: pid == self.known_to_have_ended)
        monkeypatch.setattr(remote_workers, "start_workers", self.start)

    def sleep(self, duration_s):
        self.now_s += duration_s

    def dial(self, *_):
        if self.now_s < self.back_after_s:
            raise PeerGoneError("nobody listens")
        return SimpleNamespace(gone=None)

    def start(self, lab):
        self.started_at_s, self.back_after_s = self.now_s, self.now_s
        return ()


def test_a_worker_that_its_host_restarts_is_given_the_time_that_a_small_board_takes_to_import_torch(
    tmp_path, monkeypatch
):
    host = Host(monkeypatch, read_lab(Lab(tmp_path, [None]).path), back_after_s=32.0)
    host.workers.revive()
    assert host.workers.client("h1").gone is None
    assert (host.started_at_s, host.now_s) == (None, 32.0)


def test_a_worker_that_does_not_come_back_is_started_and_at_once_if_it_had_been_started_so(tmp_path, monkeypatch):
    lab = read_lab(Lab(tmp_path, [None]).path)
    host = Host(monkeypatch, lab, back_after_s=float("inf"))
    host.workers.revive()
    assert host.started_at_s == pytest.approx(60.0, abs=1)
    host = Host(monkeypatch, lab, back_after_s=float("inf"))
    host.known_to_have_ended = 4711
    host.workers.revive()
    assert host.started_at_s == host.now_s == 0.0


def test_a_worker_that_is_not_up_is_an_error_that_says_so(tmp_path):
    lab = Lab(tmp_path, [None])
    with pytest.raises(PeerGoneError, match=r"worker h1: .*; start it with: hwrun up"):
        RemoteWorkers(read_lab(lab.path), ("h1",), {}).__enter__()


def test_what_a_testbed_cannot_do_is_refused_before_anything_starts(tmp_path):
    lab = Lab(tmp_path, [None, None])

    def plan(*options):
        return sweep_plan(parsed(["--testbed", str(lab.path), *SMALL, "--splits", "3", *options]))

    with pytest.raises(BadUsageError, match="memory with --testbed, but its stages share this process"):
        plan("--backend", "memory")

    assert plan().cells[0].hosts == ("h1", "h2")
    assert plan("--hosts", "h2,h1").cells[0].hosts == ("h2", "h1")
    (cell,) = plan("--link", "5mbit,20ms").cells
    assert "the loopback interface, which is not shaped" in plan().sites["tcp"].refuses(cell)[0]
    with pytest.raises(BadUsageError, match="got 'h9', expected one of h1, h2"):
        plan("--hosts", "h1,h9")
    with pytest.raises(BadUsageError, match="--local: got it with --testbed"):
        plan("--local")
    with pytest.raises(BadUsageError, match="hosts: there are 2"):
        plan("--plan", "mobilenet_v2@a[0:3]+b[3:9]+c[9:21]/b1/w-/tcp/f32")


def test_what_a_host_computes_goes_under_its_own_device_and_no_other(tmp_path):
    lab = Lab(tmp_path, [None, None])
    first, second = lab.text.split("[[hosts]]")[1:]
    lab.path.write_text(f'token_file = "token"\n[[hosts]]{first}[[hosts]]{second.replace("x86-core", "rpi4b")}')

    def hosts(*options):
        words = ["--testbed", str(lab.path), "--repeats", "1", "--batches-per-cell", "2", *options]
        return {cell.hosts for cell in sweep_plan(parsed(words)).cells}

    plan = "mobilenet_v2@rpi4b[0:3]+x86-core[3:21]/b1/w-/tcp/f32"
    with pytest.raises(BadUsageError, match=r"a stage of rpi4b on host h1, expected one of x86-core, .* with --hosts"):
        hosts("--plan", plan)
    assert hosts("--plan", plan, "--hosts", "h2,h1") == {("h2", "h1")}
    with pytest.raises(BadUsageError, match="a stage of x86-core on host h2, expected one of rpi4b"):
        hosts("--splits", "3", "--devices", "x86-core,x86-core")
    assert hosts("--splits", "3") == {("h1", "h2")}
    assert hosts("--splits", "3", "--emulate", "rpi4b,rpi4b") == {("h1", "h2")}


def test_results_come_to_the_address_that_faces_the_last_host(tmp_path):
    lab = Lab(tmp_path, [None])
    path = DataPath(("h1",), (), "h1", None)
    here = read_lab(lab.path)
    listener, address = RemoteRoute(here, path, Address(path=str(tmp_path / "r"))).listen_for_results()
    listener.close()
    assert address.path
    lab.path.write_text(lab.text + "ssh = {}\n")
    there = read_lab(lab.path)
    listener, address = RemoteRoute(there, path, Address(path=str(tmp_path / "r"))).listen_for_results()
    listener.close()
    assert address.is_local
    assert address.port > 0
