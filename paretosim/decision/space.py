"""Split × batch × window as one space of decisions, with its own front under any objectives.

A prediction compares splits at one batch size and one window. Here several of them, alike in all else, are put
side by side, and a choice is off the front if any other one, of whatever batch and window, is no worse in all
objectives and better in one (docs/model.md, "Choosing batch and window too").
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from paretosim import pareto
from paretosim.chain import Hop, splits_of
from paretosim.energy import energy_j, network_j
from paretosim.errors import BadInputError, UnlikeConditionsError
from paretosim.hop_terms import HOSTS_OF_HOP, hops_of_setting, link_of_hop
from paretosim.in_effect import terms_in_effect
from paretosim.objectives import DEFAULT_OBJECTIVES, Figures, Objective, costs_of, objectives_named
from paretosim.pipeline import significant
from paretosim.prediction import Baseline, Prediction, Row, predict
from paretosim.setting import Setting
from paretosim.stage_terms import lone_s
from paretosim.tabular import Tabular, fields_of, flat
from paretosim.transfer_time import wire_bytes
from paretosim.units import format_bytes

if TYPE_CHECKING:  # at run time it would cost every start a few milliseconds
    from numpy.typing import NDArray

# Every choice is compared with every other one.
MAX_CHOICES = 20_000


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """A split at a batch size and a window: its row of the prediction, its figures, and why it does not fit."""

    batch: int
    window: int | None
    row: Row
    figures: Figures
    misfits: tuple[str, ...]
    on_front: bool = False

    @property
    def comparable(self) -> bool:
        """Whether it can be on a front: it fits, and keeps up with what arrives."""
        return self.row.fits and math.isfinite(self.row.latency_s)

    @property
    def eligible(self) -> bool:
        """Whether it may be recommended: it fits and meets the constraints."""
        return self.row.fits and self.row.meets_constraints


class Alone(msgspec.Struct, frozen=True, kw_only=True):
    """A baseline at a batch size and a window: one device, without the other and without any link."""

    order: int
    batch: int
    window: int | None
    baseline: Baseline
    figures: Figures


class DecisionSpace(Tabular, msgspec.Struct, frozen=True, kw_only=True):
    """What `explore` found: one prediction for each batch and window, and all their splits as choices."""

    objectives: tuple[Objective, ...]
    predictions: tuple[Prediction, ...]
    choices: tuple[Choice, ...]
    alone: tuple[Alone, ...]

    @property
    def front(self) -> tuple[Choice, ...]:
        """Choices that no other one dominates, the best in the first objective first."""
        kept = [choice for choice in self.choices if choice.on_front]
        return tuple(kept[index] for index in _order(kept, self.objectives))

    def best(self, name: str) -> Choice | None:
        """The best eligible choice in that objective; ties to the others in order, then to what is listed first."""
        kept = [choice for choice in self.choices if choice.eligible]
        first = [objective for objective in self.objectives if objective.name == name]
        if not first:
            raise BadInputError(
                f"objective: got {name!r}, expected one of {', '.join(o.name for o in self.objectives)}"
            )
        others = [objective for objective in self.objectives if objective.name != name]
        return kept[_order(kept, [*first, *others])[0]] if kept else None

    def records(self) -> list[dict[str, Any]]:
        """The choices as flat dictionaries of plain values, their names those of the columns of `--csv`."""
        return [flat(self.fields_of(choice)) for choice in self.choices]

    def fields_of(self, choice: Choice) -> dict[str, Any]:
        """A choice as `predict` gives a split, with its batch, window and the figures that were asked for."""
        row = fields_of(msgspec.structs.replace(choice.row, on_front=choice.on_front))
        fields = {"split": row.pop("split"), "batch": choice.batch, "window": choice.window, **row}
        return {**fields, **self.asked_figures(choice.figures), "why_not": "; ".join(choice.misfits)}

    def asked_figures(self, figures: Figures) -> dict[str, Any]:
        """Those that a row of `predict` does not have: of the objectives asked for, and latency with a camera."""
        names = [objective.field for objective in self.objectives if objective.name not in DEFAULT_OBJECTIVES]
        if "energy_j_per_image" in names:
            names.insert(names.index("energy_j_per_image") + 1, "network_j_per_image")
        if self.predictions[0].setting.frame_rate_per_s is not None:
            names.insert(0, "image_latency_s")
        return {name: getattr(figures, name) for name in names}


def across(
    setting: Setting, batches: Sequence[int], windows: Sequence[int] = (), *, extrapolate: bool = False
) -> tuple[Setting, ...]:
    """`setting` at every batch size and, in mode `closed`, every window, batches first.

    Parameters
    ----------
    windows : none to keep the setting's own mode as it is.
    extrapolate : whether a timing of several batch sizes may be used beyond them.

    Raises
    ------
    BadInputError : a number twice, or windows in a mode that has none.
    """
    for name, numbers in (("batch", batches), ("window", windows)):
        if len(set(numbers)) < len(numbers):
            raise BadInputError(f"{name}: got {', '.join(map(str, numbers))}, expected each once")
    modes = [msgspec.structs.replace(setting.mode, window=window) for window in windows] or [setting.mode]
    found = []
    for batch in batches:
        at_batch = msgspec.structs.replace(setting, batch=batch)
        if extrapolate:
            one, two = setting.timings
            timings = (one.extrapolated_to(batch), two.extrapolated_to(batch))
            at_batch = msgspec.structs.replace(at_batch, timings=timings)
        found += [msgspec.structs.replace(at_batch, mode=mode) for mode in modes]
    return tuple(found)


def explore(settings: Sequence[Setting], objectives: Iterable[str] = DEFAULT_OBJECTIVES) -> DecisionSpace:
    """All splits of all settings, and their front under the objectives of these names.

    Choices are ordered by split, then as the settings are. One that does not fit is kept, says why, and is off the
    front.

    Parameters
    ----------
    settings : alike in all but batch, window and what a timing was extrapolated to (see `across`).

    Raises
    ------
    BadInputError : no settings, too many choices, or an objective that a device's profile has no figures for.
    UnlikeConditionsError : settings that differ in anything else.
    """
    chosen = objectives_named(objectives)
    _check_alike(settings)
    count = len(settings) * len(splits_of(len(settings[0].model.blocks), settings[0].splits))
    if count > MAX_CHOICES:
        raise BadInputError(
            f"choices: got {count} splits × batches × windows, expected {MAX_CHOICES} at most; give fewer sizes"
        )
    predictions = tuple(predict(setting) for setting in settings)
    by_setting = [_choices(prediction, chosen) for prediction in predictions]
    choices = [choice for line in zip(*by_setting, strict=True) for choice in line]
    fitting = [index for index, choice in enumerate(choices) if choice.comparable]
    if fitting:
        costs = costs_of([choices[index].figures for index in fitting], chosen)
        for index, kept in zip(fitting, pareto.is_nondominated(costs).tolist(), strict=True):
            choices[index] = msgspec.structs.replace(choices[index], on_front=kept)
    return DecisionSpace(
        objectives=chosen,
        predictions=predictions,
        choices=tuple(choices),
        alone=tuple(_alone(p, order, chosen) for order in (0, 1) for p in predictions),
    )


def _order(choices: Sequence[Choice], objectives: Sequence[Objective]) -> list[int]:
    """Places of the choices from the best in the first objective to the worst, ties by the next one."""
    costs = costs_of([choice.figures for choice in choices], objectives).tolist()
    return sorted(range(len(choices)), key=costs.__getitem__)


def _check_alike(settings: Sequence[Setting]) -> None:
    if not settings:
        raise BadInputError("settings: got none, expected one or more")
    first = settings[0]
    seen = [(setting.batch, setting.mode.window) for setting in settings]
    if len(set(seen)) < len(seen):
        raise BadInputError("settings: got the same batch and window twice, expected each once")
    if first.mode.name == "open" and len({setting.batch for setting in settings}) > 1:
        raise UnlikeConditionsError(
            f"settings: mode {first.mode} counts batches, so several batch sizes are several loads; expected one size"
        )
    for setting in settings:
        if _without_choice(setting) != _without_choice(first):
            raise UnlikeConditionsError(
                f"settings: the one of batch {setting.batch}, mode {setting.mode} differs from the first in more than"
                " batch and window; expected all else to be alike"
            )


def _without_choice(setting: Setting) -> tuple[Any, ...]:
    """What has to be the same in every setting: all but batch, window, and what a timing was extrapolated to."""
    fields = {name: getattr(setting, name) for name in setting.__struct_fields__ if name not in ("batch", "timings")}
    fields["mode"] = msgspec.structs.replace(setting.mode, window=None if setting.mode.window is None else 1)
    timings = [(timing.device, timing.model, timing.how, timing.error) for timing in setting.timings]
    return (*fields.values(), timings)


def _choices(prediction: Prediction, objectives: Sequence[Objective]) -> list[Choice]:
    setting, rows = prediction.setting, prediction.rows
    asked = {objective.name for objective in objectives}
    splits = [row.split for row in rows]
    energies = added = None
    if "energy" in asked:
        added = _network_j(setting, splits)
        energies = _energies_j(setting, [r.stages_s for r in rows], [r.period_s for r in rows], added)
    sent = _wire_bytes(setting, splits) if "bytes" in asked else None
    return [
        Choice(
            batch=setting.batch,
            window=setting.mode.window,
            row=row,
            figures=Figures(
                image_latency_s=setting.image_latency_s(row.latency_s),
                throughput_per_s=row.throughput_per_s,
                energy_j_per_image=None if energies is None else float(energies[index]),
                network_j_per_image=None if added is None else float(added[index] / setting.batch),
                peak_memory_bytes=max(row.memory_bytes) if "memory" in asked else None,
                wire_bytes_per_image=None if sent is None else float(sent[index]),
            ),
            misfits=_misfits(setting, row),
        )
        for index, row in enumerate(rows)
    ]


def _alone(prediction: Prediction, order: int, objectives: Sequence[Objective]) -> Alone:
    setting, baseline = prediction.setting, prediction.baselines[order]
    asked = {objective.name for objective in objectives}
    energy = None
    if "energy" in asked:
        blocks_s = sum(setting.timings[order].at_batch(setting.batch)[0]) / setting.speed
        busy_s = lone_s(setting, order, np.array([blocks_s])).tolist()
        period_s = setting.batch / baseline.throughput_per_s
        energy = float(_energies_j(setting, [busy_s], [period_s], np.zeros(1), only=order)[0])
    return Alone(
        order=order,
        batch=setting.batch,
        window=setting.mode.window,
        baseline=baseline,
        figures=Figures(
            image_latency_s=setting.image_latency_s(baseline.latency_s),
            throughput_per_s=baseline.throughput_per_s,
            energy_j_per_image=energy,
            network_j_per_image=None if energy is None else 0.0,
            peak_memory_bytes=baseline.memory_bytes if "memory" in asked else None,
            wire_bytes_per_image=0.0 if "bytes" in asked else None,
        ),
    )


def _energies_j(
    setting: Setting,
    busy_s: Sequence[Sequence[float]],
    period_s: Sequence[float],
    added_j: NDArray[np.float64],
    *,
    only: int | None = None,
) -> NDArray[np.float64]:
    """Joules an image, with those that networks add to a batch. A camera slower than the pipeline sets the interval."""
    devices = setting.devices if only is None else setting.devices[only : only + 1]
    interval_s = np.array(period_s)
    if setting.frame_rate_per_s is not None:
        interval_s = np.maximum(interval_s, setting.batch / setting.frame_rate_per_s)
    return significant((energy_j(devices, np.array(busy_s), interval_s) + added_j) / setting.batch)


def _network_j(setting: Setting, splits: Sequence[int]) -> NDArray[np.float64]:
    """(splits,) joules a batch that radios and NICs add, as far as devices say them."""
    added = np.zeros(len(splits))
    for hop in _on_wires(setting, splits):
        sender, receiver = (setting.devices[host] for host in HOSTS_OF_HOP[hop.name])
        added = added + network_j(hop.payload_bytes, link_of_hop(setting, hop), sender, receiver)
    return added


def _wire_bytes(setting: Setting, splits: Sequence[int]) -> NDArray[np.float64]:
    """(splits,) bytes an image over all hops, there and back, headers among them."""
    sent = [wire_bytes(hop.payload_bytes, link_of_hop(setting, hop)) for hop in _on_wires(setting, splits)]
    return significant(np.sum(sent, axis=0) / setting.batch)


def _on_wires(setting: Setting, splits: Sequence[int]) -> list[Hop]:
    """The hops of a network: a relay may be memory."""
    relay = terms_in_effect(setting).relay
    in_memory = relay is not None and relay.rate_bps is None
    return [hop for hop in hops_of_setting(setting, np.array(splits)) if not (hop.relayed and in_memory)]


def _misfits(setting: Setting, row: Row) -> tuple[str, ...]:
    """Which device a split does not fit on, with what it needs and what there is."""
    return tuple(
        f"stage{order} needs {format_bytes(need)}, {device.name} has {format_bytes(device.usable_bytes)} usable"
        for order, (need, device) in enumerate(zip(row.memory_bytes, setting.devices, strict=True), start=1)
        if need > device.usable_bytes
    )
