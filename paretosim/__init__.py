"""paretosim: where to split a neural network over devices, predicted in milliseconds.

The names below are imported when they are first used, so that `import paretosim` stays light (docs/api.md).
"""

from __future__ import annotations

TYPE_CHECKING = False  # true to a type checker, as typing's own; importing typing is not worth it here

__version__ = "0.1.0"

# Not the names of modules: those would come to stand for the module as soon as anything imports it.
_HOMES = {
    "paretosim.setting_words": ("split_setting",),
    "paretosim.predicting": ("predict_splits",),
    "paretosim.prediction": ("Baseline", "Prediction", "Recommended", "Row", "predict"),
    "paretosim.setting": ("Setting",),
    "paretosim.uncertainty.sampling": ("Doubts", "Uncertainty", "uncertainty_of"),
    "paretosim.side_by_side.panels": ("SideBySide", "paper_figure", "predict_side_by_side"),
    "paretosim.decision.space": ("Choice", "DecisionSpace", "across", "explore"),
    "paretosim.rates.link_arrays": ("LinkArrays", "predict_links"),
    "paretosim.rates.rate_map": ("Range", "RateMap", "rate_map"),
    "paretosim.simulation.simulating": ("Conditions", "Simulation", "simulate"),
    "paretosim.simulation.link_trace": ("LinkTrace",),
    "paretosim.placement.placing": ("Placement", "place", "predict_plans"),
    "paretosim.placement.rows": ("PlacementRow",),
    "paretosim.placement.setting": ("PlacementSetting",),
    "paretosim.placement.hop_links": ("HopLinks",),
    "paretosim.block": ("Block", "Model"),
    "paretosim.device": ("Device",),
    "paretosim.timing": ("Timing",),
    "paretosim.link": ("Link", "parse_link", "shaped"),
    "paretosim.calibration": ("Calibration",),
    "paretosim.explanation.explaining": ("Explanation", "explain"),
    "paretosim.mode": ("Mode",),
    "paretosim.operation": ("Operation",),
    "paretosim.plan": ("Plan",),
    "paretosim.profiles": ("ProfileStore",),
    "paretosim.pareto": ("is_nondominated", "knee"),
    "paretosim.units": ("parse_duration_s", "parse_rate_bps"),
    "paretosim.errors": ("BadInputError", "ParetosimError", "ProfileError", "UnknownNameError"),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}

if TYPE_CHECKING:
    from paretosim.block import Block, Model
    from paretosim.calibration import Calibration
    from paretosim.decision.space import Choice, DecisionSpace, across, explore
    from paretosim.device import Device
    from paretosim.errors import BadInputError, ParetosimError, ProfileError, UnknownNameError
    from paretosim.explanation.explaining import Explanation, explain
    from paretosim.link import Link, parse_link, shaped
    from paretosim.mode import Mode
    from paretosim.operation import Operation
    from paretosim.pareto import is_nondominated, knee
    from paretosim.placement.hop_links import HopLinks
    from paretosim.placement.placing import Placement, place, predict_plans
    from paretosim.placement.rows import PlacementRow
    from paretosim.placement.setting import PlacementSetting
    from paretosim.plan import Plan
    from paretosim.predicting import predict_splits
    from paretosim.prediction import Baseline, Prediction, Recommended, Row, predict
    from paretosim.profiles import ProfileStore
    from paretosim.rates.link_arrays import LinkArrays, predict_links
    from paretosim.rates.rate_map import Range, RateMap, rate_map
    from paretosim.setting import Setting
    from paretosim.setting_words import split_setting
    from paretosim.side_by_side.panels import SideBySide, paper_figure, predict_side_by_side
    from paretosim.simulation.link_trace import LinkTrace
    from paretosim.simulation.simulating import Conditions, Simulation, simulate
    from paretosim.timing import Timing
    from paretosim.uncertainty.sampling import Doubts, Uncertainty, uncertainty_of
    from paretosim.units import parse_duration_s, parse_rate_bps

__all__ = [  # noqa: RUF022 — grouped by what they are for, not sorted
    # two devices
    "predict_splits", "split_setting", "predict", "Setting", "Prediction", "Row", "Baseline", "Recommended",
    "explain", "Explanation",
    # how sure that is
    "uncertainty_of", "Doubts", "Uncertainty",
    # side by side
    "predict_side_by_side", "paper_figure", "SideBySide",
    # batch and window too, other objectives
    "explore", "across", "DecisionSpace", "Choice",
    # many links
    "predict_links", "LinkArrays", "rate_map", "Range", "RateMap",
    # one split, batch by batch
    "simulate", "Conditions", "LinkTrace", "Simulation",
    # several devices
    "place", "predict_plans", "PlacementSetting", "HopLinks", "Placement", "PlacementRow",
    # what predictions are made of
    "Model", "Block", "Device", "Timing", "Link", "Mode", "Operation", "Plan", "ProfileStore", "shaped", "parse_link",
    "Calibration",
    # fronts of anything
    "is_nondominated", "knee",
    # units
    "parse_rate_bps", "parse_duration_s",
    # errors
    "ParetosimError", "BadInputError", "UnknownNameError", "ProfileError",
]  # fmt: skip


def __getattr__(name: str) -> object:
    """The public name, from its module; it is not asked for twice."""
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
