"""A sweep's scratch folder: private, gone at the end, and removed by the next sweep if its owner was killed."""

import os

import pytest

from hwrun.errors import BadUsageError
from hwrun.scratch import remove_abandoned_folders, scratch_folder, socket_in
from hwrun.wire.address import MAX_PATH_BYTES, Address


def test_it_is_private_and_gone_afterwards_even_when_something_fails(tmp_path):
    scratch = scratch_folder(tmp_path)
    folder = scratch.__enter__()
    assert folder.stat().st_mode & 0o077 == 0
    (folder / "weights").mkdir()
    error = ZeroDivisionError()
    assert not scratch.__exit__(ZeroDivisionError, error, None)
    assert list(tmp_path.iterdir()) == []


def test_one_in_use_stays_and_one_left_behind_goes(tmp_path):
    pid = os.fork()
    if pid == 0:
        scratch = scratch_folder(tmp_path)
        scratch.__enter__()
        os._exit(0)  # as if killed: nothing is cleaned up
    os.waitpid(pid, 0)
    (left,) = tmp_path.iterdir()
    with scratch_folder(tmp_path) as first:
        assert not left.exists()
        with scratch_folder(tmp_path) as second:
            assert first.exists()
            assert second != first


def test_what_a_dying_worker_still_writes_into_keeps_its_lock_and_goes_with_the_next_sweep(tmp_path, monkeypatch):
    left = tmp_path / "hwrun-left"
    (left / "weights").mkdir(parents=True)
    (left / "lock").touch()
    with monkeypatch.context() as patch:
        patch.setattr("hwrun.scratch.shutil.rmtree", lambda path, ignore_errors: None)  # it wrote again
        remove_abandoned_folders(tmp_path)
    assert (left / "lock").exists()
    remove_abandoned_folders(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_a_sweeps_is_never_touched(tmp_path):
    (tmp_path / "hwrun-notes").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "lock").touch()
    with scratch_folder(tmp_path):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"hwrun-notes", "other"}


def test_a_folder_too_deep_for_sockets_is_refused_by_the_name_of_what_moves_it(tmp_path):
    folder = tmp_path / ("d" * (MAX_PATH_BYTES - len(str(tmp_path)) - len("//A")))
    longest = socket_in(folder, "A")
    assert (len(longest.path), Address.parse(str(longest))) == (MAX_PATH_BYTES, longest)
    with pytest.raises(
        BadUsageError, match=rf"TMPDIR: got {tmp_path}, in which .* has 108 bytes .*expected at most 107"
    ):
        socket_in(folder, "AB")
