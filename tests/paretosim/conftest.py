"""Small models, devices and links that tests do arithmetic on by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from paretosim.block import Block, Model, TensorShape
from paretosim.device import Device
from paretosim.link import Link
from paretosim.profiles import write_profile
from paretosim.setting import Setting
from paretosim.timing import BatchTiming, BlockTiming, Timing, TimingError


class Toy:
    """Builders of nouns with plain numbers. Sizes are in float32 elements per sample."""

    def model(
        self, outputs: Sequence[int] = (50, 10), *, inputs: int = 100, weights: int = 0, name: str = "toy"
    ) -> Model:
        """A model whose block i is called `b{i}` and puts out that many elements."""
        blocks = tuple(
            Block(
                name=f"b{index}", flops=1, parameters=weights // 4, parameter_bytes=weights, buffer_bytes=0,
                outputs=(TensorShape(shape=(size,), dtype="float32"),), peak_activation_bytes=4 * size,
            )
            for index, size in enumerate(outputs)
        )  # fmt: skip
        return Model(
            schema_version=1, name=name, classes=outputs[-1], input=TensorShape(shape=(inputs,), dtype="float32"),
            flops_convention="none", origin={}, blocks=blocks,
        )  # fmt: skip

    def device(self, name: str = "one", *, memory_bytes: int | None = 10**9, reserved_bytes: int = 0) -> Device:
        """A device of that memory."""
        return Device(schema_version=1, name=name, title=name, memory_bytes=memory_bytes, reserved_bytes=reserved_bytes)

    def timing(
        self, seconds: Sequence[float], *, device: str = "one", model: str = "toy", batch: int = 8,
        kind: Any = "measured", error: float | None = 0.05, **conditions: bool,
    ) -> Timing:  # fmt: skip
        """Block times in order."""
        blocks = tuple(BlockTiming(name=f"b{index}", value_s=value) for index, value in enumerate(seconds))
        return Timing(
            schema_version=1, device=device, model=model, kind=kind, how="by hand", conditions=dict(conditions),
            batches=(BatchTiming(batch=batch, blocks=blocks),),
            error=None if error is None else TimingError(relative=error, meaning="by hand"),
        )  # fmt: skip

    def link(self, rate_bps: float = 1e6, delay_s: float = 0.0, *, return_delay_s: float = 0.0, **fields: Any) -> Link:
        """A link without headers unless given, so that payload·8/rate is all there is."""
        return Link(
            **{
                "schema_version": 1, "name": "toy", "rate_bps": rate_bps, "one_way_delay_s": delay_s,
                "return_rate_bps": rate_bps, "return_delay_s": return_delay_s, "header_bytes": 0,
                "mss_bytes": 1000, "wmax_bytes": 10**9, **fields,
            }
        )  # fmt: skip

    def setting(
        self, first_s: Sequence[float] = (0.1, 0.3), second_s: Sequence[float] = (0.2, 0.4), *,
        link: Link | None = None, outputs: Sequence[int] | None = None, inputs: int = 100, weights: int = 0,
        devices: tuple[Device, Device] | None = None, error: float | None = 0.05,
        kind: str = "measured", conditions: dict[str, bool] | None = None, **fields: Any,
    ) -> Setting:  # fmt: skip
        """Two devices, `one` and `two`, with those block times at batch 8."""
        outputs = tuple(range(len(first_s), 0, -1)) if outputs is None else outputs
        one, two = devices or (self.device("one"), self.device("two"))
        options = {"error": error, "kind": kind, **(conditions or {})}
        return Setting(
            model=self.model(outputs, inputs=inputs, weights=weights),
            devices=(one, two),
            timings=(
                self.timing(first_s, device=one.name, **options),
                self.timing(second_s, device=two.name, **options),
            ),
            link=link or self.link(),
            **fields,
        )

    def write_profiles(self, folder: Path, *, outputs: Sequence[int] = (50, 10), **options: Any) -> Path:
        """A profile directory with model `toy` and devices `one` and `two`."""
        model = self.model(outputs)
        write_profile(folder / "models" / "toy.json", model)
        for name, factor in (("one", 1.0), ("two", 0.5)):
            write_profile(folder / "devices" / f"{name}.json", self.device(name))
            seconds = [factor * 0.1 * (index + 1) for index in range(len(outputs))]
            write_profile(folder / "timings" / name / "toy.json", self.timing(seconds, device=name, **options))
        return folder


@pytest.fixture(scope="session")
def toy() -> Toy:
    """Builders of toy nouns."""
    return Toy()


@pytest.fixture
def profiles(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with toy profiles, and no other directory from the environment."""
    monkeypatch.delenv("PARETOSIM_PROFILES", raising=False)
    return toy.write_profiles(tmp_path / "profiles")


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run `paretosim` in this process: exit code, stdout, stderr."""
    from paretosim.cli import main

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
