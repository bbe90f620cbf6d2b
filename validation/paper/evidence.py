"""Predictions as the paper's programs ran, from profiles that have not seen the row in question.

A row of the tables is judged by a fit without it: on the Pi the law and its corrections are fitted anew, on the GPU the
model has nothing else, so it gets the median of the other models' stage times. Everything else is the paper's own:
bursts of eight batches, serial workers, interior splits, a clock that starts with stage 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from paretosim.block import Model
from paretosim.calibration import Calibration
from paretosim.link import Link
from paretosim.mode import Mode
from paretosim.operation import Clock, Operation
from paretosim.prediction import Prediction, Row, predict
from paretosim.setting import Setting
from paretosim.timing import BatchTiming, BlockTiming, Timing
from validation.device_law import Floats
from validation.left_out import StageFit
from validation.published import DEVICES, PUBLISHED_BATCH, PublishedRow, TableName, split_of_index
from validation.reconstruct import GPU, PI, Reconstruction

PAPER_MODE = Mode.named("burst")


@dataclass(frozen=True)
class Evidence:
    """What claims are judged by. `links` are the LAN of each table, and the shaped link under "duress"."""

    models: Mapping[str, Model]
    rows: tuple[PublishedRow, ...]
    reconstruction: Reconstruction
    links: Mapping[str, Link]
    _known: dict[tuple[object, ...], Prediction] = field(default_factory=dict, repr=False, compare=False)

    def rows_of(self, table: TableName, model: str | None = None) -> list[PublishedRow]:
        """Rows of a table, of one model or of all."""
        return [row for row in self.rows if row.table == table and model in (None, row.model)]

    def row(self, table: TableName, model: str, index: int) -> PublishedRow:
        """The row of the paper's own index."""
        return next(row for row in self.rows_of(table, model) if row.index == index)

    def link_of(self, table: TableName, *, shaped: bool = False) -> Link:
        """The path that the first Pi sends over."""
        return self.links["duress" if shaped else table]

    def stage_fits(self, row: PublishedRow) -> tuple[StageFit, StageFit]:
        """Both stages of a row, fitted and left out."""
        found = sorted((s for s in self.reconstruction.stages if s.time.row == row), key=lambda s: s.time.stage)
        one, two = found
        return one, two

    def error_of(self, table: TableName, model: str) -> float:
        """Left-out error of the profiles that a prediction of that table rests on, the larger one."""
        errors = [self._timing(device, model).error for device in DEVICES[table]]
        return max(error.relative for error in errors if error is not None)

    def offered(self, found: Prediction) -> tuple[Row, ...]:
        """Those splits that the paper's programs have an index for: a residual network's stem is never cut."""
        model = found.setting.model
        cuts = {split_of_index(model.name, index) for index in range(1, len(model.blocks))}
        return tuple(row for row in found.rows if row.split in cuts)

    def predicted(
        self, table: TableName, model: str, *, shaped: bool = False, unseen: PublishedRow | None = None
    ) -> Prediction:
        """All interior splits as the paper ran them, from profiles without `unseen`."""
        key = (table, model, shaped, unseen)
        if key not in self._known:
            self._known[key] = predict(self.setting(table, model, shaped=shaped, unseen=unseen))
        return self._known[key]

    def setting(
        self,
        table: TableName,
        model: str,
        *,
        shaped: bool = False,
        unseen: PublishedRow | None = None,
        mode: Mode = PAPER_MODE,
        clock: Clock = "stage1",
        rpc: Calibration | None = None,
    ) -> Setting:
        """The paper's own setting, with what differs from it given."""
        devices = {device.name: device for device in self.reconstruction.devices}
        one, two = DEVICES[table]
        return Setting(
            model=self.models[model],
            devices=(devices[one], devices[two]),
            timings=(self._timing(one, model, unseen), self._timing(two, model, unseen)),
            link=self.link_of(table, shaped=shaped),
            batch=PUBLISHED_BATCH,
            mode=mode,
            operation=Operation(workers="serial", clock=clock),
            splits="interior",
            backend="tcp" if rpc is None else "rpc",
            calibration=rpc,
        )

    def _timing(self, device: str, model: str, unseen: PublishedRow | None = None) -> Timing:
        timing = next(t for t in self.reconstruction.timings if (t.device, t.model) == (device, model))
        if unseen is None or not any(
            s.time.device == device and s.time.row == unseen for s in self.reconstruction.stages
        ):
            return timing
        if device == PI:
            return _with_blocks(timing, self.reconstruction.judged.fits_without[unseen].block_times_s[model])
        assert device == GPU
        fit = next(s for s in self.reconstruction.stages if s.time.device == GPU and s.time.row == unseen)
        blocks, _ = timing.at_batch(PUBLISHED_BATCH)
        return _with_blocks(timing, [seconds * fit.left_out_s / fit.fitted_s for seconds in blocks])


def _with_blocks(timing: Timing, seconds: Sequence[float] | Floats) -> Timing:
    [entry] = timing.batches
    blocks = tuple(
        BlockTiming(name=block.name, value_s=float(value)) for block, value in zip(entry.blocks, seconds, strict=True)
    )
    return msgspec.structs.replace(timing, batches=(BatchTiming(batch=entry.batch, blocks=blocks),))
