"""Terms of the model, each broken on purpose: what a gate has to catch (docs/model.md has the terms)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from paretosim import hop_terms, in_effect, pipeline, prediction, stage_terms, transfer_time
from paretosim.calibration import Calibration, Term
from paretosim.link import Link
from paretosim.mode import Mode

Break = Callable[[pytest.MonkeyPatch], None]


def without(*terms: Term) -> Break:
    """Terms that a calibration has and the model forgets, in fits as in predictions."""

    def broken(patch: pytest.MonkeyPatch) -> None:
        def forgetful(setting: Any) -> Calibration:
            return known(setting).without(*terms)

        known = in_effect.terms_in_effect
        for module in ("in_effect", "hop_terms", "resting", "stage_terms"):
            patch.setattr(f"paretosim.{module}.terms_in_effect", forgetful)
        patch.setattr("validation.fitting.phase_times.terms_in_effect", forgetful)

    return broken


def hops_times(**factors: float) -> Break:
    """What hops take, those terms that many times as long."""

    def broken(patch: pytest.MonkeyPatch) -> None:
        def changed(*arguments: Any, **named: Any) -> hop_terms.HopTerms:
            found = known(*arguments, **named)
            return msgspec.structs.replace(
                found, **{name: factor * getattr(found, name) for name, factor in factors.items()}
            )

        known = hop_terms.crossing_terms
        patch.setattr(hop_terms, "crossing_terms", changed)

    return broken


def stages_plus(**shares: float) -> Break:
    """What stages take, with that share of those terms more."""

    def broken(patch: pytest.MonkeyPatch) -> None:
        def changed(*arguments: Any) -> stage_terms.StageTerms:
            found = known(*arguments)
            more_s = sum(share * getattr(found, name) for name, share in shares.items())
            return msgspec.structs.replace(found, total_s=found.total_s + more_s)

        known = stage_terms.stages_taking
        patch.setattr(stage_terms, "stages_taking", changed)

    return broken


def _control(setting: Any, *, delay: float, dispatch: float) -> float:
    terms = in_effect.terms_in_effect(setting)
    return float(delay * setting.control_delay_s + dispatch * terms.dispatch_s)


def with_the_dispatch_twice(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(prediction, "control_s", lambda setting: _control(setting, delay=1, dispatch=2))


def without_headers(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(transfer_time, "wire_bytes", lambda payload, link: np.asarray(payload, dtype=np.float64))


def with_ethernet_headers(patch: pytest.MonkeyPatch) -> None:
    """Of 90 bytes, where what sets the rate sees 66."""

    def longer(payload: Any, link: Link) -> Any:
        return known(payload, msgspec.structs.replace(link, header_bytes=90 if link.header_bytes else 0))

    known = transfer_time.wire_bytes
    patch.setattr(transfer_time, "wire_bytes", longer)


def with_more_rate(share: float) -> Break:
    def broken(patch: pytest.MonkeyPatch) -> None:
        known = transfer_time.effective_rate_bps
        patch.setattr(transfer_time, "effective_rate_bps", lambda link: (1 + share) * known(link))

    return broken


def with_delays_that_occupy(patch: pytest.MonkeyPatch) -> None:
    """A link that takes no other message until the last one has arrived."""
    known = hop_terms.HopTerms.occupied_s.fget
    assert known is not None
    patch.setattr(hop_terms.HopTerms, "occupied_s", property(lambda terms: known(terms) + terms.delays_s))


def with_copying_after_the_wire(patch: pytest.MonkeyPatch) -> None:
    """Sockets that copy when all is on the wire, instead of beside it."""

    def changed(*arguments: Any, **named: Any) -> hop_terms.HopTerms:
        found = known(*arguments, **named)
        return msgspec.structs.replace(found, copying_s=found.sockets_s)

    known = hop_terms.crossing_terms
    patch.setattr(hop_terms, "crossing_terms", changed)


def with_batches_that_wait_for_answers(patch: pytest.MonkeyPatch) -> None:
    """A batch that goes on when its call returns, instead of when it has arrived."""
    known = hop_terms.HopTerms.waits_s.fget
    assert known is not None

    def waits(terms: Any) -> Any:
        found = known(terms)
        return np.hstack([found[:, :-1] + terms.answering_s, found[:, -1:]])

    patch.setattr(hop_terms.HopTerms, "waits_s", property(waits))


def with_answers_that_take_no_round_trip(patch: pytest.MonkeyPatch) -> None:
    def changed(setting: Any, crossings: Any, **named: Any) -> hop_terms.HopTerms:
        return known(setting, [crossing._replace(rtt_s=0.0) for crossing in crossings], **named)

    known = hop_terms.crossing_terms
    patch.setattr(hop_terms, "crossing_terms", changed)


def without_queueing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(pipeline, "in_mode", lambda unloaded, slowest, mode: (unloaded, unloaded))


def without_overlap(patch: pytest.MonkeyPatch) -> None:
    """A pipeline whose stages and links take turns: its interval is the sum of all."""
    known = pipeline.in_mode
    patch.setattr(pipeline, "in_mode", lambda unloaded, slowest, mode: known(unloaded, unloaded, mode))


def with_one_batch_more_in_a_burst(patch: pytest.MonkeyPatch) -> None:
    known = pipeline.in_mode

    def longer(unloaded: Any, slowest: Any, mode: Mode) -> Any:
        if mode.batches is None:
            return known(unloaded, slowest, mode)
        latency, period = known(unloaded, slowest, Mode(name="burst", batches=mode.batches + 1))
        return latency, period * (mode.batches + 1) / mode.batches

    patch.setattr(pipeline, "in_mode", longer)


def without_waiting_in_a_burst(patch: pytest.MonkeyPatch) -> None:
    known = pipeline.in_mode

    def sooner(unloaded: Any, slowest: Any, mode: Mode) -> Any:
        latency, period = known(unloaded, slowest, mode)
        return (latency if mode.batches is None else unloaded), period

    patch.setattr(pipeline, "in_mode", sooner)


def with_a_window_of_one_more(patch: pytest.MonkeyPatch) -> None:
    known = pipeline.in_mode

    def wider(unloaded: Any, slowest: Any, mode: Mode) -> Any:
        return known(unloaded, slowest, mode if mode.window is None else Mode(name="closed", window=mode.window + 1))

    patch.setattr(pipeline, "in_mode", wider)


def without_waiting_in_a_window(patch: pytest.MonkeyPatch) -> None:
    """Latency of an empty pipeline, however many batches are in it."""
    known = pipeline.in_mode

    def sooner(unloaded: Any, slowest: Any, mode: Mode) -> Any:
        latency, period = known(unloaded, slowest, mode)
        return (latency if mode.window is None else unloaded), period

    patch.setattr(pipeline, "in_mode", sooner)


def without_the_windows_bound(patch: pytest.MonkeyPatch) -> None:
    """An interval that no window makes longer."""
    known = pipeline.in_mode

    def shorter(unloaded: Any, slowest: Any, mode: Mode) -> Any:
        latency, period = known(unloaded, slowest, mode)
        return latency, (period if mode.window is None else slowest)

    patch.setattr(pipeline, "in_mode", shorter)


def with_stages_swapped(patch: pytest.MonkeyPatch) -> None:
    known = prediction.stage_times_s
    patch.setattr(prediction, "stage_times_s", lambda *arguments: known(*arguments)[..., ::-1])


def with_the_activation_of_the_block_before(patch: pytest.MonkeyPatch) -> None:
    known = hop_terms.hops_of
    patch.setattr(hop_terms, "hops_of", lambda cut_bytes, *rest, **named: known(np.roll(cut_bytes, 1), *rest, **named))


def with_twice_the_first_window(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(transfer_time, "INITIAL_WINDOW_SEGMENTS", 20)
