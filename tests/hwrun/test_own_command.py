"""What a fix tells a reader to type after sudo, which finds no command of a virtual environment by its name."""

import sys

from hwrun.machine.own_command import own_command


def script(folder):
    folder.mkdir(parents=True)
    path = folder / "hwrun"
    path.touch()
    return path


def test_the_script_that_runs_is_named_by_its_whole_path(tmp_path, monkeypatch):
    script(tmp_path / "a b")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["a b/hwrun", "doctor"])
    assert own_command() == f"'{tmp_path}/a b/hwrun'"


def test_a_process_that_hwrun_started_names_the_script_of_its_environment(tmp_path, monkeypatch):
    beside = script(tmp_path / "bin")
    monkeypatch.setattr(sys, "argv", ["/somewhere/hwrun/shaping/keeper.py"])
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    assert own_command() == str(beside)


def test_without_a_script_it_is_a_module_of_this_python(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["hwrun"])  # no file of that name is here
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert own_command() == f"{tmp_path}/python -m hwrun.cli"
