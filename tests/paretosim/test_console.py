"""How wide what is printed may be: as the terminal is, as COLUMNS says, or as the command likes it in a pipe."""

import pytest

from paretosim.console import stdout_console


def test_a_pipe_gets_the_width_that_the_command_likes():
    assert stdout_console(130).width == 130


def test_columns_says_how_wide_a_pipe_is(monkeypatch):
    monkeypatch.setenv("COLUMNS", "77")
    assert stdout_console(130).width == 77


@pytest.mark.parametrize("nonsense", ["", "wide", "-5"])
def test_columns_that_is_no_number_says_nothing(monkeypatch, nonsense):
    monkeypatch.setenv("COLUMNS", nonsense)
    assert stdout_console(130).width == 130


def test_numbers_and_brackets_are_printed_as_they_are(capsys):
    stdout_console(130).print("block [3] of :heart: at 0x10", soft_wrap=True)
    assert capsys.readouterr().out == "block [3] of :heart: at 0x10\n"
