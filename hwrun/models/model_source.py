"""Where a model comes from, by its reference: the name of a catalogue entry, or a network that prints itself.

A reference that came over the wire or from a profile builds only what the user of this host has allowed: the
catalogue always, a network where its factory was named on the command line.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from hwrun.errors import BadUsageError
from hwrun.models.catalogue import MODEL_NAMES, build_model, sample_input
from hwrun.models.network import Network
from paretosim.block import Model

if TYPE_CHECKING:
    import torch

    from hwrun.models.cut import BlockChain

# Following a graph takes seconds, and every split of a sweep deploys the same few networks.
_CHAINS_KEPT = 2


def is_network(reference: str) -> bool:
    """Whether the reference is of a network, not of a catalogue entry."""
    return ":" in reference


def recorded_reference(model: Model) -> str:
    """What a profile says it was made from; nothing of it is imported or checked."""
    return model.origin.get("network", model.name)


def reference_of(model: Model, allowed: Collection[str]) -> str:
    """What builds the model that a profile describes.

    Parameters
    ----------
    allowed : factories that the user named, such as `mynets.unet:build`.

    Raises
    ------
    BadUsageError : neither of the catalogue nor made from a network that is allowed here.
    """
    if "network" not in model.origin:
        if model.name not in MODEL_NAMES:
            raise BadUsageError(
                f"model {model.name}: its profile does not say what builds it, expected one of {', '.join(MODEL_NAMES)}"
                " or a profile that hwrun trace wrote with --module or --torchvision"
            )
        return model.name
    _allowed_network(model.origin["network"], allowed)
    return recorded_reference(model)


def build_whole(
    reference: str, *, seed: int, allowed: Collection[str], weights: Path | None = None
) -> tuple[torch.nn.Module, BlockChain]:
    """The whole model with given or random weights, and its chain.

    Raises
    ------
    BadUsageError : the network's factory is not among `allowed`, or the weights are not the model's.
    """
    if is_network(reference):
        if weights is not None:
            raise BadUsageError(f"weights: got {weights} for {reference}, expected them for a model of the catalogue")
        network = _allowed_network(reference, allowed)
        module = network.build(seed=seed)
        return module, network.chain(module)
    from hwrun.models.cut import BlockChain

    module = build_model(reference, seed=seed, weights=weights)
    return module, BlockChain.of(reference, module)


def input_for(reference: str, batch: int, seed: int) -> torch.Tensor:
    """One batch of inputs, the same for the same seed."""
    if is_network(reference):
        return Network.parse(reference).sample_input(batch, seed)
    return sample_input(reference, batch, seed)


def network_stage(reference: str, first: int, last: int, allowed: Collection[str]) -> torch.nn.Module:
    """Blocks [first, last) of a network with weights that are to be replaced.

    Raises
    ------
    BadUsageError : the network's factory is not among `allowed`.
    """
    _allowed_network(reference, allowed)
    # Copied: replacing a stage's weights must not reach the chain that is kept.
    return copy.deepcopy(_kept_chain(reference).stage(first, last))


@functools.lru_cache(maxsize=_CHAINS_KEPT)
def _kept_chain(reference: str) -> BlockChain:
    network = Network.parse(reference)
    return network.chain(network.build(meta=True))


def _allowed_network(text: str, allowed: Collection[str]) -> Network:
    network = Network.parse(text)
    if network.reference not in allowed:
        raise BadUsageError(
            f"network {network.reference}: is not allowed on this host, expected it to be named there: building it runs"
            f" its code. Add --allow-module {network.reference} if you trust it"
        )
    return network
