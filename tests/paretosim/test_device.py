"""Devices: usable memory, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from paretosim.device import Device
from paretosim.errors import BadInputError


def test_what_the_system_takes_is_not_usable(toy: Any) -> None:
    assert toy.device(memory_bytes=1000, reserved_bytes=300).usable_bytes == 700


def test_an_unknown_memory_holds_everything(toy: Any) -> None:
    assert toy.device(memory_bytes=None).usable_bytes == float("inf")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"memory_bytes": 0}, "memory_bytes: got 0, expected more than zero, or null"),
        ({"memory_bytes": -5}, "memory_bytes: got -5"),
        ({"cores": 0}, "cores: got 0"),
        ({"idle_power_w": float("nan")}, "idle_power_w: got nan"),
        ({"busy_power_w": float("inf")}, "busy_power_w: got inf"),
        ({"memory_bytes": 10, "reserved_bytes": 11}, "reserved_bytes: got 11, expected 0 to memory_bytes"),
        ({"reserved_bytes": -1}, "reserved_bytes: got -1"),
        ({"name": "a+b"}, r"name: got 'a\+b', expected one without any of"),
        ({"name": ""}, "name: got ''"),
        ({"schema_version": 3}, "schema_version: got 3, expected 1"),
    ],
)
def test_nonsense_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInputError, match=said):
        Device(**{"schema_version": 1, "name": "d", "title": "d", **fields})
