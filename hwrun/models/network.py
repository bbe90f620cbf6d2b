"""Networks outside the catalogue: named by the user, built by a factory, their blocks derived from the graph.

A network is a value that prints and parses, so that a model profile can say what it was made from and another
host can build the same: `package.module:factory`, or `torchvision:NAME`, and what goes with it as a query.
Importing this module does not import torch. A factory's module is code: it is imported only where the user names
it, never because a message or a profile does.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import os
import re
import shlex
import sys
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hwrun.errors import BadUsageError
from paretosim.profiles import nearest

if TYPE_CHECKING:
    import torch

    from hwrun.models.cut import BlockChain

TORCHVISION = "torchvision"
_REFERENCE = re.compile(r"(?P<module>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*):(?P<factory>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*)")
# Arguments of torchvision's builders that make them download, which a reference must not.
_FETCHING = ("weights", "weights_backbone")
# Not names that a factory's argument can have.
_INPUT, _MAX_BLOCKS = "input-shape", "max-blocks"


@dataclass(frozen=True, kw_only=True)
class Network:
    """What builds a network, and how it is to be cut.

    Parameters
    ----------
    reference : `package.module:factory`, or `torchvision:NAME`.
    input_shape : of one sample, (channels, height, width) for images; the network takes one float32 tensor.
    arguments : keyword arguments of the factory, plain Python literals.
    max_blocks : no more blocks than that.

    >>> str(Network.parse("torchvision:vit_b_16?input-shape=3x224x224&num_classes=10"))
    'torchvision:vit_b_16?input-shape=3x224x224&num_classes=10'
    """

    reference: str
    input_shape: tuple[int, ...]
    arguments: dict[str, Any] = field(default_factory=dict)
    max_blocks: int | None = None

    def __post_init__(self) -> None:
        if not _REFERENCE.fullmatch(self.reference):
            raise BadUsageError(
                f"network: got {self.reference!r}, expected package.module:factory, such as mynets.unet:build"
            )
        if not self.input_shape or any(size < 1 for size in self.input_shape):
            raise BadUsageError(f"input: got {list(self.input_shape)}, expected positive sizes, such as 3x224x224")
        if self.max_blocks is not None and self.max_blocks < 1:
            raise BadUsageError(f"max blocks: got {self.max_blocks}, expected 1 or more")
        for key in self.arguments:
            if not key.isidentifier():
                raise BadUsageError(f"argument: got {key!r}, expected the name of one of the factory's arguments")
            if key in _FETCHING and self.reference.startswith(f"{TORCHVISION}:"):
                raise BadUsageError(f"argument: got {key}, which would fetch them; expected it to be left out")

    def __str__(self) -> str:
        query = [(_INPUT, "x".join(map(str, self.input_shape)))]
        if self.max_blocks is not None:
            query.append((_MAX_BLOCKS, str(self.max_blocks)))
        query += [(key, _written(value)) for key, value in self.arguments.items()]
        return f"{self.reference}?{urllib.parse.urlencode(query)}"

    @classmethod
    def parse(cls, text: str) -> Network:
        """The network that prints as `text`."""
        reference, _, query = text.partition("?")
        settings = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        if _INPUT not in settings:
            raise BadUsageError(f"network: got {text!r}, expected package.module:factory?{_INPUT}=3x224x224")
        limit = settings.pop(_MAX_BLOCKS, None)
        return cls(
            reference=reference,
            input_shape=parse_shape(settings.pop(_INPUT)),
            max_blocks=None if limit is None else _whole(limit, _MAX_BLOCKS),
            arguments={key: parse_value(value) for key, value in settings.items()},
        )

    @property
    def short_name(self) -> str:
        """What a profile of it is called unless the user says otherwise."""
        return self.reference.rpartition(":")[2].rpartition(".")[2]

    @property
    def construction(self) -> str:
        """The call that builds it, as a person would write it."""
        module, _, factory = self.reference.partition(":")
        arguments = ({"weights": None} if module == TORCHVISION else {}) | self.arguments
        where = "torchvision.models" if module == TORCHVISION else module
        return f"{where}.{factory}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"

    @property
    def options(self) -> str:
        """The options of a command that name it."""
        module, _, factory = self.reference.partition(":")
        which = ["--torchvision", factory] if module == TORCHVISION else ["--module", self.reference]
        words = [*which, "--input", "x".join(map(str, self.input_shape))]
        if self.max_blocks is not None:
            words += ["--max-blocks", str(self.max_blocks)]
        for key, value in self.arguments.items():
            words += ["--arg", f"{key}={_written(value)}"]
        return shlex.join(words)

    def build(self, *, seed: int = 0, meta: bool = False) -> torch.nn.Module:
        """The whole network, ready for inference; the seed fixes random weights and the caller's state stays.

        Parameters
        ----------
        meta : shapes without data, where the factory can do without: one that computes with what it makes cannot.

        Raises
        ------
        BadUsageError : there is no such module or factory, it raises, or it returns no torch.nn.Module.
        """
        import torch

        factory, arguments = self._factory()
        if isinstance(factory, torch.nn.Module) and not arguments:
            return factory.eval().requires_grad_(False)
        if meta:
            with contextlib.suppress(Exception), torch.device("meta"):
                return _checked(self.reference, factory(**arguments))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                module = factory(**arguments)
            except Exception as error:  # the user's code may raise anything
                raise BadUsageError(
                    f"{self.reference}: raised {type(error).__name__}: {error}; expected {self.construction} to return"
                    " a torch.nn.Module. Give its arguments with --arg KEY=VALUE"
                ) from error
        return _checked(self.reference, module)

    def chain(self, module: torch.nn.Module) -> BlockChain:
        """The network as a chain of blocks, the same on every host.

        Raises
        ------
        BadUsageError : it cannot be traced, or returns what no stage could send.
        """
        import torch

        from hwrun.models.cut import BlockChain
        from hwrun.models.tracing import trace

        return BlockChain.derived(trace(module, self.input_shape, torch.float32), self.max_blocks)

    def sample_input(self, batch: int, seed: int = 0) -> torch.Tensor:
        """Normally distributed samples, float32, the batch first; the same for the same seed."""
        import torch

        if batch < 1:
            raise BadUsageError(f"batch: got {batch}, expected 1 or more")
        return torch.randn(batch, *self.input_shape, generator=torch.Generator().manual_seed(seed))

    def _factory(self) -> tuple[Any, dict[str, Any]]:
        module_name, _, path = self.reference.partition(":")
        if module_name == TORCHVISION:
            return _torchvision_builder(path), _torchvision_arguments(path) | self.arguments
        value = _imported(module_name)
        for attribute in path.split("."):
            known = [name for name in dir(value) if not name.startswith("_")]
            if not hasattr(value, attribute):
                raise BadUsageError(f"{self.reference}: {module_name} has no {attribute!r}{nearest(attribute, known)}")
            value = getattr(value, attribute)
        if not callable(value):
            raise BadUsageError(f"{self.reference}: got a {type(value).__name__}, expected a factory to call")
        return value, self.arguments


def _checked(reference: str, module: Any) -> torch.nn.Module:
    import torch

    if not isinstance(module, torch.nn.Module):
        raise BadUsageError(f"{reference}: returned a {type(module).__name__}, expected a torch.nn.Module")
    return module.eval().requires_grad_(False)


def _imported(name: str) -> Any:
    # As with `python -m`, whose current directory comes first; an installed command has its own folder there.
    here = os.getcwd()  # noqa: PTH109 - sys.path holds strings
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise BadUsageError(
            f"module: {name}: {error}; expected a module that Python finds from {here} or PYTHONPATH"
        ) from error
    except Exception as error:  # the user's code may raise anything
        raise BadUsageError(f"module: importing {name} raised {type(error).__name__}: {error}") from error


def _torchvision_builder(name: str) -> Any:
    from torchvision import models  # type: ignore[import-untyped]  # ships no annotations

    try:
        return models.get_model_builder(name)
    except ValueError as error:
        known = models.list_models()
        raise BadUsageError(
            f"torchvision: got {name!r}, expected a model of torchvision such as vit_b_16{nearest(name, known)}"
        ) from error


def _torchvision_arguments(name: str) -> dict[str, Any]:
    """What keeps a builder from fetching weights, and from warning of a default that is to change."""
    arguments: dict[str, Any] = {"weights": None}
    if "weights_backbone" in inspect.signature(_torchvision_builder(name)).parameters:
        arguments["weights_backbone"] = None
    if name in ("googlenet", "inception_v3"):
        arguments["init_weights"] = True
    return arguments


def torchvision_input(name: str) -> tuple[int, ...]:
    """The shape of one image as torchvision's own weights of that model take it.

    Raises
    ------
    BadUsageError : no such model, or its weights do not say.
    """
    from torchvision import models

    weights = models.get_model_weights(_torchvision_builder(name))
    settings = getattr(weights.DEFAULT.transforms, "keywords", {}) if len(weights) else {}
    size = settings.get("crop_size", settings.get("resize_size"))
    if not isinstance(size, int):
        raise BadUsageError(f"torchvision: the size of an image for {name} is not known; give --input 3xHxW")
    return (3, size, size)


def parse_shape(text: str) -> tuple[int, ...]:
    """Sizes of one sample as typed.

    >>> parse_shape("3x224x224")
    (3, 224, 224)
    """
    return tuple(_whole(part, "input") for part in text.lower().split("x"))


def parse_arguments(texts: Sequence[str]) -> dict[str, Any]:
    """Arguments of a factory as typed, `KEY=VALUE`."""
    arguments: dict[str, Any] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator or not key.isidentifier():
            raise BadUsageError(f"--arg: got {text!r}, expected KEY=VALUE, such as num_classes=10")
        if key in arguments:
            raise BadUsageError(f"--arg: got {key} twice, expected one value")
        arguments[key] = parse_value(value)
    return arguments


def parse_value(text: str) -> Any:
    """A plain Python literal, or the text itself where it is none.

    >>> parse_value("10"), parse_value("(1, 2)"), parse_value("gelu")
    (10, (1, 2), 'gelu')
    """
    try:
        return ast.literal_eval({"true": "True", "false": "False", "none": "None"}.get(text, text))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _written(value: Any) -> str:
    """What `parse_value` reads back as `value`."""
    text = str(value)
    return text if type(parse_value(text)) is type(value) and parse_value(text) == value else repr(value)


def _whole(text: str, what: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise BadUsageError(f"{what}: got {text!r}, expected whole numbers, such as 3x224x224 or 8")
    return int(text)
