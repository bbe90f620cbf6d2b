from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hwrun.errors import NotPermittedError
from hwrun.local import namespaces
from hwrun.local.namespaces import Availability, NetworkNamespace, availability, reexec_in_user_namespace


def refuse() -> None:
    raise OSError(errno.EPERM, "unshare(CLONE_NEWNET): Operation not permitted")


def namespace_of_this_thread() -> str:
    return str(Path("/proc/thread-self/ns/net").readlink())


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Availability is found out anew, outside of any restarted command, and forgotten after."""
    monkeypatch.delenv(namespaces.USER_NAMESPACE_MARK, raising=False)
    availability.cache_clear()
    yield
    availability.cache_clear()


@pytest.fixture
def permitted() -> None:
    found = availability()
    if found.how == "none" or found.needs_reexec:
        pytest.skip(f"no network namespaces in this process: {found}")


@pytest.mark.usefixtures("fresh")
class TestAvailability:
    def answer_of_unshare(self, monkeypatch: pytest.MonkeyPatch, code: int, complaint: str = "") -> None:
        def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
            return subprocess.CompletedProcess(command, code, "", complaint)

        monkeypatch.setattr(namespaces, "try_network_namespace", refuse)
        monkeypatch.setattr(namespaces.shutil, "which", lambda _: "/usr/bin/unshare")
        monkeypatch.setattr(namespaces.subprocess, "run", run)

    def test_refused_twice_it_gives_both_reasons_and_a_remedy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answer_of_unshare(monkeypatch, 1, "unshare: unshare failed: Operation not permitted\n")
        found = availability()
        assert found.how == "none"
        assert found.reason == (
            "network namespaces are not permitted here (unshare(CLONE_NEWNET): Operation not permitted;"
            " in a user namespace: unshare: unshare failed: Operation not permitted)"
        )
        assert found.remedy is not None
        assert found.remedy.startswith("run as root")

    def test_a_setting_that_withholds_user_namespaces_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answer_of_unshare(monkeypatch, 1, "unshare: write failed /proc/self/uid_map: Operation not permitted")
        withheld = "kernel/apparmor_restrict_unprivileged_userns"
        monkeypatch.setattr(namespaces, "_sysctl", lambda name: "1" if name == withheld else None)
        assert (availability().remedy or "").endswith(
            "or permit user namespaces: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
        )

    def test_without_the_unshare_program_it_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answer_of_unshare(monkeypatch, 0)
        monkeypatch.setattr(namespaces.shutil, "which", lambda _: None)
        found = availability()
        assert (found.how, "install util-linux" in (found.remedy or "")) == ("none", True)

    def test_permitted_in_a_user_namespace_only_it_asks_for_a_restart(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answer_of_unshare(monkeypatch, 0)
        assert availability() == Availability("userns", needs_reexec=True)

    def test_a_restarted_command_that_is_still_refused_does_not_ask_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.answer_of_unshare(monkeypatch, 0)
        monkeypatch.setenv(namespaces.USER_NAMESPACE_MARK, "1")
        found = availability()
        assert found.how == "none"
        assert "inside the user namespace either" in (found.reason or "")

    def test_it_tries_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        calls: list[int] = []
        monkeypatch.setattr(namespaces, "try_network_namespace", lambda: calls.append(1))
        assert availability() is availability()
        assert calls == [1]

    def test_trying_leaves_this_process_where_it_was(self) -> None:
        before = namespace_of_this_thread()
        availability()
        assert namespace_of_this_thread() == before

    def test_restarting_where_it_is_not_permitted_says_why(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answer_of_unshare(monkeypatch, 1, "unshare: unshare failed: Operation not permitted")
        with pytest.raises(NotPermittedError, match=r"in a user namespace: unshare.*; run as root"):
            reexec_in_user_namespace([])

    def test_a_refused_namespace_is_an_error_with_a_remedy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(namespaces, "unshare_network", refuse)
        with pytest.raises(NotPermittedError, match="no network namespace could be made") as caught:
            NetworkNamespace.create()
        assert caught.value.remedy.startswith("run as root")


@pytest.mark.root
@pytest.mark.usefixtures("permitted")
class TestNetworkNamespace:
    def test_entering_moves_this_thread_alone_and_brings_it_back(self) -> None:
        outside = namespace_of_this_thread()
        namespace = NetworkNamespace.create()
        with ThreadPoolExecutor(max_workers=1) as other:
            other.submit(int).result()  # the thread exists before
            with namespace.entered():
                assert namespace_of_this_thread() != outside
                assert other.submit(namespace_of_this_thread).result() == outside
        assert namespace_of_this_thread() == outside
        namespace.close()

    def test_it_comes_back_from_an_error_too(self) -> None:
        outside = namespace_of_this_thread()
        namespace = NetworkNamespace.create()
        with pytest.raises(KeyboardInterrupt), namespace.entered():
            raise KeyboardInterrupt
        assert namespace_of_this_thread() == outside
        namespace.close()

    def test_namespaces_nest(self) -> None:
        first, second = NetworkNamespace.create(), NetworkNamespace.create()
        with first.entered():
            in_first = namespace_of_this_thread()
            with second.entered():
                assert namespace_of_this_thread() != in_first
            assert namespace_of_this_thread() == in_first
        first.close()
        second.close()

    def test_it_goes_when_it_is_closed(self) -> None:
        namespace = NetworkNamespace.create()
        inode = os.fstat(namespace.fileno()).st_ino
        namespace.close()
        namespace.close()
        held = {link.readlink().name for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}
        assert f"net:[{inode}]" not in held
        with pytest.raises(ValueError, match="is closed"):
            namespace.fileno()


RESTARTING = """
import os, sys
from hwrun.local.namespaces import availability, in_user_namespace, reexec_in_user_namespace
if "HWRUN_IN_USER_NAMESPACE" not in os.environ:
    reexec_in_user_namespace(sys.orig_argv[1:])
import socket
from hwrun.local.testbed import LocalTestbed
open(sys.argv[1], "w").close()
with socket.create_server(("127.0.0.1", 0)) as server:
    socket.create_connection(server.getsockname()).close()
with LocalTestbed(shaped=True) as testbed:
    print(in_user_namespace(), availability().how, availability().needs_reexec, testbed.description()["namespaces"])
"""


@pytest.mark.root
def test_a_command_restarts_itself_in_a_user_namespace_and_has_a_testbed_there(tmp_path: Path) -> None:
    if availability().how == "none" or namespaces.in_user_namespace():
        pytest.skip("a user namespace is not permitted, or this is one already")
    environment = {name: value for name, value in os.environ.items() if name != namespaces.USER_NAMESPACE_MARK}
    result = subprocess.run(
        [sys.executable, "-c", RESTARTING, str(tmp_path / "made")],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
    )
    if "unshare failed" in result.stderr or "uid_map" in result.stderr:
        pytest.skip(f"user namespaces are not permitted: {result.stderr}")
    assert (result.stdout, result.stderr) == ("True userns False userns\n", "")
    assert (tmp_path / "made").stat().st_uid == os.getuid()
