"""From words to a prediction in one call, as `paretosim predict` does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from paretosim.block import Model
from paretosim.device import Device
from paretosim.prediction import Prediction, predict
from paretosim.setting_words import DEFAULT_DEVICES, SettingWords, split_setting


def predict_splits(
    model: str | Model, devices: Sequence[str | Device] = DEFAULT_DEVICES, **words: Unpack[SettingWords]
) -> Prediction:
    """Every split of a model over two devices: objectives, memory, front and recommended splits.

    Parameters
    ----------
    model, devices, words : the arguments of `split_setting`, which are the options of `paretosim predict`.

    Raises
    ------
    BadInputError : something that is not known or means nothing; the message names it and what was expected.

    >>> found = predict_splits("vgg16", bw="50mbit", delay="10ms")
    >>> found.recommended.throughput, [row.split for row in found.front][:3]
    (13, [39, 33, 31])
    """
    return predict(split_setting(model, devices, **words))
