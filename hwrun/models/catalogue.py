"""The catalogue: six networks, how each is built, and where its blocks begin and end.

Importing this module does not import torch, so a command can list the models without paying for it. The blocks
follow Masud et al. (profiles/published/models.csv): what `calls` lists is what the traced graph calls, in order.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwrun.errors import BadUsageError
from paretosim.profiles import nearest

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class BlockEntry:
    """One block: `calls` are module paths or function names in graph order; `idle` modules are held but not called."""

    name: str
    calls: tuple[str, ...]
    idle: tuple[str, ...] = ()


@dataclass(frozen=True)
class CatalogueEntry:
    """One model: a torchvision factory with its arguments, one sample's input shape, and its blocks."""

    name: str
    classes: int
    input_shape: tuple[int, ...]
    blocks: tuple[BlockEntry, ...]
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def construction(self) -> str:
        """The call that builds it, as a person would write it."""
        arguments = {"weights": None, "num_classes": self.classes} | self.arguments
        return f"torchvision.models.{self.name}({', '.join(f'{key}={value}' for key, value in arguments.items())})"


def _one_each(*paths: str) -> tuple[BlockEntry, ...]:
    return tuple(BlockEntry(path, (path,)) for path in paths)


def _numbered(prefix: str, count: int) -> tuple[BlockEntry, ...]:
    return _one_each(*(f"{prefix}.{index}" for index in range(count)))


# The paper counts the pool and the flatten after it as one block in every model.
_POOL_AND_FLATTEN = BlockEntry("avgpool", ("avgpool", "flatten"))


def _resnet(name: str, depths: tuple[int, int, int, int]) -> CatalogueEntry:
    residual = (f"layer{stage}.{index}" for stage, depth in enumerate(depths, start=1) for index in range(depth))
    return CatalogueEntry(
        name=name,
        classes=1000,
        input_shape=(3, 224, 224),
        blocks=(
            *_one_each("conv1", "bn1", "relu", "maxpool"),
            *_one_each(*residual),
            _POOL_AND_FLATTEN,
            *_one_each("fc"),
        ),
    )


def _plain(name: str, features: int) -> CatalogueEntry:
    return CatalogueEntry(
        name=name,
        classes=1000,
        input_shape=(3, 224, 224),
        blocks=(*_numbered("features", features), _POOL_AND_FLATTEN, *_numbered("classifier", 7)),
    )


_ENTRIES = (
    CatalogueEntry(
        name="mobilenet_v2",
        classes=10,
        input_shape=(3, 224, 224),
        blocks=(
            *_numbered("features", 19),
            BlockEntry("avgpool", ("adaptive_avg_pool2d", "flatten")),
            BlockEntry("classifier", ("classifier.0", "classifier.1")),
        ),
    ),
    _resnet("resnet18", (2, 2, 2, 2)),
    CatalogueEntry(
        name="inception_v3",
        classes=10,
        input_shape=(3, 299, 299),
        # init_weights is named because torchvision warns that its default will change.
        arguments={"aux_logits": True, "transform_input": False, "init_weights": True},
        blocks=(
            *_one_each("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "maxpool1"),
            *_one_each("Conv2d_3b_1x1", "Conv2d_4a_3x3", "maxpool2"),
            *_one_each(*(f"Mixed_{suffix}" for suffix in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e"))),
            BlockEntry("AuxLogits", (), idle=("AuxLogits",)),
            *_one_each("Mixed_7a", "Mixed_7b", "Mixed_7c", "avgpool"),
            BlockEntry("dropout", ("dropout", "flatten")),
            *_one_each("fc"),
        ),
    ),
    _resnet("resnet50", (3, 4, 6, 3)),
    _plain("alexnet", 13),
    _plain("vgg16", 31),
)
_BY_NAME = {entry.name: entry for entry in _ENTRIES}
MODEL_NAMES: tuple[str, ...] = tuple(_BY_NAME)
_CLASSES_MARK = "?classes="
# ImageNet's full hierarchy has 21841; a worker builds nothing larger because somebody asks.
_MOST_CLASSES = 100_000


def catalogue_entry(name: str) -> CatalogueEntry:
    """The entry of that name, or of that name with another number of classes: `resnet18?classes=10`.

    The number of classes is the size of the last layer alone: blocks and their number stay.

    Raises
    ------
    BadUsageError : no such model; lists the known ones and the nearest spelling.
    """
    plain, mark, classes = name.partition(_CLASSES_MARK)
    if plain not in _BY_NAME:
        raise BadUsageError(
            f"model: got {name!r}, expected one of {', '.join(MODEL_NAMES)}{nearest(plain, MODEL_NAMES)}"
        )
    if not mark:
        return _BY_NAME[name]
    if not (classes.isascii() and classes.isdecimal() and 1 <= int(classes) <= _MOST_CLASSES):
        raise BadUsageError(f"model: got {name!r}, expected 1 to {_MOST_CLASSES} classes")
    return replace(_BY_NAME[plain], classes=int(classes))


def with_classes(name: str, classes: int) -> str:
    """What names a catalogue model with that many classes: its plain name where they are its own.

    >>> with_classes("resnet18", 10), with_classes("resnet18", 1000)
    ('resnet18?classes=10', 'resnet18')
    """
    entry = catalogue_entry(name)
    return entry.name if catalogue_entry(entry.name).classes == classes else f"{entry.name}{_CLASSES_MARK}{classes}"


def build_model(name: str, *, seed: int = 0, weights: Path | None = None, meta: bool = False) -> torch.nn.Module:
    """The whole model, ready for inference.

    Parameters
    ----------
    name : a name of `MODEL_NAMES`, with another number of classes where wanted.
    seed : fixes the random weights, and leaves the caller's random state as it was.
    weights : a safetensors file with exactly this model's state dict, used instead of random weights.
    meta : shapes without data, for a worker that loads only its own blocks.

    Raises
    ------
    BadUsageError : an unknown model, or weights that are unreadable or not this model's; names the keys.
    """
    import torch
    from torchvision import models  # type: ignore[import-untyped]  # ships no annotations

    entry = catalogue_entry(name)
    if meta and weights is not None:
        raise BadUsageError("weights: got a file for a model without data; expected either weights or meta")
    factory = getattr(models, entry.name)
    with torch.random.fork_rng(devices=[]), torch.device("meta" if meta else "cpu"):
        torch.manual_seed(seed)
        module: torch.nn.Module = factory(weights=None, num_classes=entry.classes, **entry.arguments)
    if weights is not None:
        _load_given_weights(module, name, weights)
    return module.eval().requires_grad_(False)


def _load_given_weights(module: torch.nn.Module, name: str, path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from hwrun.models.state_dict import differences

    try:
        given = load_file(path)
    except (OSError, SafetensorError) as error:
        raise BadUsageError(f"weights: {path} cannot be read as safetensors ({error}); export it again") from error
    if found := differences(given, module.state_dict()):
        raise BadUsageError(f"weights: {path} is not a state dict of {name}: {found}")
    # Cloned: tensors mapped from the file are not aligned for vector loads, and would change if the file did.
    module.load_state_dict({key: tensor.clone() for key, tensor in given.items()}, assign=True)


def sample_input(name: str, batch: int, seed: int = 0) -> torch.Tensor:
    """Normally distributed images, shape (batch, channels, height, width), float32; the same for the same seed."""
    import torch

    if batch < 1:
        raise BadUsageError(f"batch: got {batch}, expected 1 or more")
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, *catalogue_entry(name).input_shape, generator=generator)
