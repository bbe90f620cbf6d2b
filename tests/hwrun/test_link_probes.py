"""When a sweep's links are probed, and for how long one that misses is given up. Workers and time are the test's."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from hwrun.planned_cell import Crossing
from hwrun.probing import link_probes
from hwrun.probing.link_probes import GIVEN_UP_S, LinkProbes
from hwrun.records import ClockExchange, LinkMeasured
from paretosim.link import Link

HOP = Crossing(
    "A",
    "B",
    Link(schema_version=1, name="l", rate_bps=5e6, one_way_delay_s=0.2, return_rate_bps=5e6, return_delay_s=0.0),
)


class Path:
    """Probes find what is said here; how many there were."""

    def __init__(self) -> None:
        self.rtt_s = 0.2
        self.probes = 0
        exchange = ClockExchange(sent_s=0.0, arrived_s=0.0, answered_s=0.0, returned_s=0.0)
        self._client = SimpleNamespace(name="w", exchange=lambda: exchange)

    def client(self, host: str) -> SimpleNamespace:
        return self._client

    def probe(self, hop: Crossing, medium: str, echo_s: float) -> LinkMeasured:
        self.probes += 1
        goodput_bps = 5e6 * 1448 / 1538
        return LinkMeasured(
            medium="relay", rtt_samples_s=(self.rtt_s,) * 5, goodput_bps=goodput_bps, probe_bytes=1_250_000
        )


def test_a_link_that_misses_is_given_up_for_a_while_and_then_probed_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    now = SimpleNamespace(s=100.0)
    monkeypatch.setattr(link_probes, "time", SimpleNamespace(monotonic=lambda: now.s))
    path = Path()
    testbed = SimpleNamespace(medium=lambda *_: "relay", shape=lambda *_: None)
    probes = LinkProbes(testbed, path, lambda probe: None, 0.05)  # type: ignore[arg-type]  # what is asked of them
    path.rtt_s = 0.3
    assert "round trips take 300ms" in str(probes.missed_before(HOP))
    path.rtt_s = 0.2
    now.s += GIVEN_UP_S - 1
    assert "round trips take 300ms" in str(probes.missed_before(HOP))
    assert path.probes == 3  # its cells cost nothing meanwhile
    assert probes.after(HOP, is_last=True) is None
    now.s += 2
    assert probes.missed_before(HOP) is None
    assert path.probes == 4
