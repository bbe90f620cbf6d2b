"""Output where the encoding lacks a symbol."""

from __future__ import annotations

import io

import pytest

from paretosim.plain_text import speak_plainly


def _written(text: str, encoding: str) -> bytes:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
    speak_plainly(stream)
    stream.write(text)
    return raw.getvalue()


def test_ascii_gets_stand_ins_and_a_question_mark_for_what_has_none() -> None:
    assert _written("2× → ● ≤ 3–4 … 猫", "ascii") == b"2x -> * <= 3-4 ... ?"


def test_an_encoding_keeps_what_it_has() -> None:
    assert _written("2× →", "latin-1") == b"2\xd7 ->"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
def test_unicode_lacks_nothing(encoding: str) -> None:
    assert _written("2× → 猫", encoding) == "2× → 猫".encode(encoding)


def test_a_stream_that_cannot_change_is_left_alone() -> None:
    stream = io.StringIO()
    speak_plainly(stream)
    stream.write("→")
    assert stream.getvalue() == "→"
