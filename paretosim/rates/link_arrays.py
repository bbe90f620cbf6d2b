"""Arrays of links in, arrays of objectives out: every split of a setting on links of any rate and delay."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from paretosim.errors import BadInputError
from paretosim.link import shaped
from paretosim.rates.link_response import link_response
from paretosim.rates.link_sweep import sweep
from paretosim.setting import Setting


class LinkArrays(msgspec.Struct, frozen=True, kw_only=True):
    """Objectives of every split on every link; the last axis is that of `splits`, those before are the links'.

    `splits` (splits,) are those that fit in memory. `latency_s`, `throughput_per_s` (images), `period_s` (of batches)
    and `on_front` are of shape (…links, splits).
    """

    splits: NDArray[np.int64]
    latency_s: NDArray[np.float64]
    throughput_per_s: NDArray[np.float64]
    period_s: NDArray[np.float64]
    on_front: NDArray[np.bool_]


def predict_links(
    setting: Setting,
    rate_bps: ArrayLike | None = None,
    one_way_delay_s: ArrayLike | None = None,
    return_delay_s: ArrayLike | None = None,
) -> LinkArrays:
    """Objectives and fronts of every split that fits, on links whose rates and delays broadcast.

    What is not given is the setting's own link's. As with `--bw`, a rate that is given holds both ways, and segments
    have the headers of a shaped link.

    Parameters
    ----------
    rate_bps, one_way_delay_s, return_delay_s : arrays of any shapes that broadcast.

    Raises
    ------
    BadInputError : a rate that is not above zero, a negative delay, one that is not finite; shapes that do not
        broadcast; or no split fits.

    >>> from paretosim import split_setting
    >>> rates, delays = np.array([5e6, 50e6, 500e6]), np.array([[0.0], [0.2]])
    >>> predict_links(split_setting("vgg16"), rates, delays).latency_s.shape
    (2, 3, 40)
    """
    link = setting.link
    return_rate_bps = link.return_rate_bps if rate_bps is None else None
    if rate_bps is not None:
        setting = msgspec.structs.replace(setting, link=shaped(link, rate_bps=link.rate_bps))
    given = (
        link.rate_bps if rate_bps is None else rate_bps,
        link.one_way_delay_s if one_way_delay_s is None else one_way_delay_s,
        link.return_delay_s if return_delay_s is None else return_delay_s,
    )
    arrays = [np.asarray(values, dtype=np.float64) for values in given]
    try:
        arrays = list(np.broadcast_arrays(*arrays))
    except ValueError as error:
        shapes = ", ".join(str(values.shape) for values in arrays)
        raise BadInputError(
            f"links: got rates and delays of shapes {shapes}, expected ones that broadcast, such as (3,) and (2, 1)"
        ) from error
    response = link_response(setting, return_rate_bps)
    found = sweep(response, *(values.ravel() for values in arrays))
    shape = (*arrays[0].shape, len(response.splits))
    period_s = found.period_s.reshape(shape)
    return LinkArrays(
        splits=response.splits,
        latency_s=found.latency_s.reshape(shape),
        throughput_per_s=setting.batch / period_s,
        period_s=period_s,
        on_front=found.on_front.reshape(shape),
    )
