"""How every JSON document is written that a person may open too: indented, with a final newline."""

from __future__ import annotations

import msgspec


def indented_json(value: object) -> bytes:
    r"""The value as one indented JSON document with a final newline.

    >>> indented_json({"splits": [0, 1]})
    b'{\n "splits": [\n  0,\n  1\n ]\n}\n'
    """
    return msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n"
