"""A sweep before a person: on a terminal one line that moves, with the time left."""

import os
import pty
import sys
import termios
import threading

from hwrun.cli import main
from hwrun.machine.steady import steady_environment


def test_on_a_terminal_a_bar_moves_and_says_what_is_measured_and_how_long_it_still_takes(tmp_path, monkeypatch):
    for name, value in {**steady_environment(1), "TERM": "xterm", "COLUMNS": "120"}.items():
        monkeypatch.setenv(name, value)
    here, there = pty.openpty()
    termios.tcsetwinsize(there, (40, 120))
    shown = bytearray()

    def read():
        while True:
            try:
                shown.extend(os.read(here, 4096))
            except OSError:  # the other end is closed
                return

    reader = threading.Thread(target=read)
    reader.start()
    options = "--backend memory --model mobilenet_v2 --emulate rpi4b,rpi4b --speed 400 --splits 8,20 --mode single"
    with os.fdopen(there, "w", encoding="utf-8") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        assert main(["sweep", *options.split(), "--repeats", "1", "-o", str(tmp_path / "run")]) == 0
    reader.join(timeout=10)
    os.close(here)
    text = shown.decode()
    assert "mobilenet_v2 @8 unshaped single #0" in text
    assert "mobilenet_v2 @20 unshaped single #0" in text
    assert "2/2" in text
    assert " s left" in text
    assert "done: " not in text  # the lines of a pipe
