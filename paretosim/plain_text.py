"""Output where the terminal's encoding lacks a symbol: an ASCII stand-in instead of an error or a bare `?`."""

from __future__ import annotations

import codecs
from typing import TextIO

_ERROR_HANDLER = "paretosim.stand_in"
_STAND_INS = {
    "→": "->", "×": "x", "–": "-", "−": "-", "…": "...", "≤": "<=", "≥": ">=", "≠": "!=", "±": "+-", "⁺": "+",
    "●": "*", "·": ".", "✗": "X", "│": "|", "└": "+", "─": "-", "₀": "0", "₁": "1", "µ": "u", "τ": "tau", "δ": "delta",
    "“": '"', "”": '"', "’": "'",
}  # fmt: skip


def speak_plainly(stream: TextIO) -> None:
    """Let `stream` write a stand-in for what its encoding lacks; a UTF-8 stream lacks nothing and stays as it is."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is None or codecs.lookup(stream.encoding).name.startswith("utf"):
        return
    codecs.register_error(_ERROR_HANDLER, _stand_in)
    reconfigure(errors=_ERROR_HANDLER)


def _stand_in(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_STAND_INS.get(symbol, "?") for symbol in error.object[error.start : error.end]), error.end
