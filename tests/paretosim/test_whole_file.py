"""A file is written whole or not at all, and what is no plain file is never replaced."""

import os
from pathlib import Path

import pytest

from paretosim.errors import BadInputError
from paretosim.whole_file import require_writable, write_whole


def names(folder):
    return [path.name for path in folder.iterdir()]


def test_what_was_there_stays_until_all_is_written_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")

    def half(unfinished):
        unfinished.write_text("ha")
        assert path.read_text() == "old"
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        write_whole(path, half)
    assert (names(tmp_path), path.read_text()) == (["a"], "old")
    write_whole(path, lambda unfinished: unfinished.write_text("new"))
    assert (names(tmp_path), path.read_text()) == (["a"], "new")


def test_a_link_keeps_pointing_where_it_does(tmp_path):
    (tmp_path / "there").mkdir()
    link = tmp_path / "link"
    link.symlink_to("there/a")
    write_whole(link, lambda unfinished: unfinished.write_text("new"))
    assert link.is_symlink()
    assert (tmp_path / "there/a").read_text() == "new"


def test_a_pipe_or_device_is_written_to_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_whole(pipe, lambda path: path.write_bytes(b"x"))
        assert os.read(reader, 9) == b"x"
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    write_whole(Path(os.devnull), lambda path: path.write_bytes(b"x"))
    assert Path(os.devnull).is_char_device()


def test_a_folder_is_an_error_of_the_system(tmp_path):
    for folder in (tmp_path, Path()):
        with pytest.raises(IsADirectoryError):
            write_whole(folder, lambda path: path.write_text("x"))


def test_a_folder_that_takes_files_is_left_as_it_was_and_one_that_does_not_is_refused(tmp_path):
    require_writable(tmp_path / "new" / "folder")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(BadInputError, match=r"-o: .*file takes no files \(File exists\), expected a folder of yours"):
        require_writable(tmp_path / "file")
