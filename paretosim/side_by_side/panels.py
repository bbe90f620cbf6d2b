"""Several predictions side by side: models, devices and links; the paper's figures 3–6 among them.

Masud et al. show in four figures what a cut of each of their six models gives, over two Raspberry Pis and over a Pi
and a server, on their LAN and on a shaped link. What those figures vary is data here, in `PAPER_FIGURES`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from paretosim.device import Device
from paretosim.errors import BadInputError
from paretosim.link import Link
from paretosim.prediction import Prediction, predict
from paretosim.profiles import ProfileStore
from paretosim.setting import Setting
from paretosim.setting_words import DEFAULT_DEVICES, Spelling, as_argument, split_setting
from paretosim.tabular import Tabular

if TYPE_CHECKING:
    pass

# In the order of the paper's table I.
PAPER_MODELS = ("mobilenet_v2", "resnet18", "inception_v3", "resnet50", "alexnet", "vgg16")


class PaperFigure(msgspec.Struct, frozen=True):
    """What one of the paper's figures shows six models over."""

    title: str
    devices: tuple[str, str]
    link: str


PAPER_FIGURES = {
    3: PaperFigure("Pi to Pi, LAN", ("rpi4b", "rpi4b"), "paper-lan-pi-pi"),
    4: PaperFigure("Pi to GPU, LAN", ("rpi4b", "rtx4090"), "paper-lan-pi-gpu"),
    5: PaperFigure("Pi to Pi, 200 ms and 5 Mbit/s", ("rpi4b", "rpi4b"), "paper-duress"),
    6: PaperFigure("Pi to GPU, 200 ms and 5 Mbit/s", ("rpi4b", "rtx4090"), "paper-duress"),
}


class SideBySide(Tabular, msgspec.Struct, frozen=True, kw_only=True):
    """Predictions to be compared, each a panel; `figure` is the paper's number where they are one of its figures."""

    title: str
    panels: tuple[Prediction, ...]
    figure: int | None = None

    def __post_init__(self) -> None:
        if not self.panels:
            raise BadInputError("panels: got none, expected at least one prediction")

    @property
    def conditions(self) -> tuple[tuple[Prediction, ...], ...]:
        """The panels, those of the same devices on the same link together, in order."""
        grouped: dict[tuple[str, ...], list[Prediction]] = {}
        for panel in self.panels:
            names = (*(device.name for device in panel.setting.devices), panel.setting.link.name)
            grouped.setdefault(names, []).append(panel)
        return tuple(map(tuple, grouped.values()))

    def records(self) -> list[dict[str, Any]]:
        """Every split of every panel as one flat row that begins with its model, devices and link."""
        return [identified(panel) | row for panel in self.panels for row in panel.records()]


def identified(panel: Prediction) -> dict[str, str]:
    """What tells a panel from the others: its model, devices and link."""
    setting = panel.setting
    one, two = (device.name for device in setting.devices)
    return {"model": setting.model.name, "first_device": one, "second_device": two, "link": setting.link.name}


def predict_side_by_side(
    models: Sequence[str] | Literal["all"],
    devices: Iterable[Sequence[str | Device]] = (DEFAULT_DEVICES,),
    links: Iterable[str | Link | None] = (None,),
    *,
    profiles: ProfileStore | Iterable[Path | str] = (),
    spelling: Spelling = as_argument,
    **words: Any,
) -> SideBySide:
    """Predictions of every model over every pair of devices and every link; panels of a model are not adjacent.

    Parameters
    ----------
    models : names, or `all` that have timings on all these devices.
    devices : pairs, each as in `split_setting`.
    links : presets, RATE,DELAY or values, each as in `split_setting`.
    words : the other arguments of `split_setting`, the same in every panel.

    Raises
    ------
    BadInputError : as `split_setting` does; or no model is timed on all these devices.
    """
    store = profiles if isinstance(profiles, ProfileStore) else ProfileStore(map(Path, profiles))
    pairs = [tuple(pair) for pair in devices]
    names = {device if isinstance(device, str) else device.name for pair in pairs for device in pair}
    own: Mapping[str, Any] = words.pop("timings", None) or {}
    if unused := sorted(set(own) - names):
        raise BadInputError(
            f"{spelling('timing')}: got a timing of {', '.join(unused)}, expected one of {' or '.join(sorted(names))}"
        )
    chosen = _timed_everywhere(store, names) if models == "all" else models
    settings = []
    for pair in pairs:
        there = {device if isinstance(device, str) else device.name for device in pair}
        timings = {name: timing for name, timing in own.items() if name in there}
        settings += [
            split_setting(model, pair, link=link, timings=timings, profiles=store, spelling=spelling, **words)
            for link in links
            for model in dict.fromkeys(chosen)
        ]
    return SideBySide(title=_title(settings), panels=tuple(map(predict, settings)))


def paper_figure(
    number: int, models: Sequence[str] | Literal["all"] = "all", *, spelling: Spelling = as_argument, **words: Any
) -> SideBySide:
    """The paper's figure 3, 4, 5 or 6 as this model predicts it: a panel for each of its six models.

    The paper's own points are of bursts of 8 batches through serial workers, timed from the start of stage 1: say
    `mode="burst", operation=Operation(workers="serial", clock="stage1")` for those. Unless told otherwise, batches are
    paced through overlapped workers, and splits are the interior ones as in the paper.

    Parameters
    ----------
    models : which of the panels.
    words : arguments of `split_setting`, but for devices and links.

    Raises
    ------
    BadInputError : another number or another model than the paper's.
    """
    if number not in PAPER_FIGURES:
        raise BadInputError(f"{spelling('figure')}: got {number}, expected one of {', '.join(map(str, PAPER_FIGURES))}")
    figure = PAPER_FIGURES[number]
    chosen = PAPER_MODELS if models == "all" else tuple(models)
    if unknown := [model for model in chosen if model not in PAPER_MODELS]:
        raise BadInputError(
            f"{spelling('models')}: got {unknown[0]!r}, which the paper's figures do not show;"
            f" expected one of {', '.join(PAPER_MODELS)}"
        )
    options = {"splits": "interior", **words}
    found = predict_side_by_side(chosen, [figure.devices], [figure.link], spelling=spelling, **options)
    title = f"The paper's figure {number}, predicted: {figure.title}"
    return msgspec.structs.replace(found, title=title, figure=number)


def _timed_everywhere(store: ProfileStore, names: Collection[str]) -> tuple[str, ...]:
    """Models with a timing on every device of these names, the paper's first and in its order."""
    for name in sorted(names):
        store.device(name)  # an unknown one is named as such
    timed = [set(store.timed_models(name)) for name in sorted(names)]
    models = [model for model in store.names("models") if all(model in known for known in timed)]
    if not models:
        raise BadInputError(
            f"models: got all, but none is timed on {' and '.join(sorted(names))}; measure some with: hwrun profile"
        )
    in_paper = [model for model in PAPER_MODELS if model in models]
    return (*in_paper, *(model for model in models if model not in PAPER_MODELS))


def _title(settings: Sequence[Setting]) -> str:
    def listed(names: Iterable[str]) -> str:
        return ", ".join(dict.fromkeys(names))

    models = list(dict.fromkeys(setting.model.name for setting in settings))
    return (
        f"{models[0] if len(models) == 1 else f'{len(models)} models'} over"
        f" {listed(' → '.join(device.name for device in setting.devices) for setting in settings)}"
        f" on {listed(setting.link.name for setting in settings)}"
    )
