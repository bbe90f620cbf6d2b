"""How long a message occupies a link, in a warm TCP connection (docs/model.md, "Link").

A message of S bytes goes in n = ⌈S / mss⌉ segments, each with `header_bytes` beside its payload, so the wire
carries S + header_bytes·n bytes. The rate is the link's, but never above a full window a round trip.
The one-way delay comes once after that and is not part of the occupancy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from paretosim.link import Link


def serialisation_s(payload_bytes: ArrayLike, link: Link) -> NDArray[np.float64]:
    """Seconds that messages of `payload_bytes` (any shape) keep `link` busy; same shape."""
    size = np.asarray(payload_bytes, dtype=np.float64)
    segments = np.ceil(size / link.mss_bytes)
    with np.errstate(over="ignore"):  # infinite on a link that is too slow for a number
        return np.asarray((size + link.header_bytes * segments) * 8 / effective_rate_bps(link))


def effective_rate_bps(link: Link) -> float:
    """The link's rate, or a full window per round trip where that is less."""
    return min(link.rate_bps, 8 * link.wmax_bytes / link.rtt_s) if link.rtt_s > 0 else link.rate_bps
