"""What a front over several devices is said to mean."""

from __future__ import annotations

from typing import Any

import pytest

from paretosim import resolution
from paretosim.mode import MODE_NAMES, Mode
from paretosim.placement.hop_links import HopLinks
from paretosim.placement.limits import Forbid, Pin
from paretosim.placement.placing import place
from paretosim.placement.resolution import indistinguishable
from paretosim.placement.setting import PlacementSetting
from paretosim.placement.verdict import placement_verdict
from paretosim.prediction import predict
from paretosim.setting import Setting


@pytest.fixture
def said(toy: Any) -> Any:
    """The verdict on block times by device, `a`, `b`, … in order, over a link of 1 Mbit/s unless given."""

    def verdict(*seconds: tuple[float, ...], rate_bps: float = 1e6, **fields: Any) -> str:
        names = "abcd"[: len(seconds)]
        overhead = fields.pop("overhead_bound", "")
        error = fields.pop("error", 0.05)
        devices = fields.pop("devices", tuple(toy.device(name) for name in names))
        setting = PlacementSetting(
            model=toy.model(range(10 * len(seconds[0]), 0, -10), inputs=50, weights=1000),
            devices=devices,
            timings=tuple(
                toy.timing(times, device=name, error=error, overhead_bound=name in overhead)
                for name, times in zip(names, seconds, strict=True)
            ),
            links=HopLinks(every=toy.link(rate_bps)),
            **fields,
        )
        return placement_verdict(place(setting))

    return verdict


def test_three_devices_are_held_against_one_and_two(said: Any) -> None:
    text = said((1.0, 1.0, 1.0), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0))
    assert text.startswith("Best throughput: a[0:1]+b[1:2]+c[2:3], 8 images/s at 3.01 s a batch: 3.00× a alone, where")
    assert "The best plan of two devices, a[0:2]+c[2:3], does 4 images/s (2.00×)." in text
    assert "Lowest latency: a[0:3]+c[3:3], 3 s, as soon as a alone." in text
    assert "In latency, a[0:3]+c[3:3] cannot be told apart from a[0:2]+c[2:3]" in text
    assert "stage times are measured with up to 5.0% error, and a smaller gain than that cannot be told" in text


def test_a_device_more_that_brings_little_is_not_worth_it(said: Any) -> None:
    text = said((1.0, 1.0, 0.01), (1.0, 1.0, 0.01), (1.0, 1.0, 0.01))
    assert "(1.01×); more than two are not worth it." in text


def test_one_device_is_enough_where_the_link_is_slow(said: Any) -> None:
    text = said((1.0, 1.0), (1.0, 1.0), rate_bps=100)
    assert text.startswith("One device is enough: a alone does 4 images/s at 2 s a batch, and no plan over these links")


def test_two_of_three_are_said_to_be_all_that_helps(said: Any) -> None:
    text = said((1.0, 1.0), (9.0, 9.0), (1.0, 1.0))
    assert "2.00× a alone, where the inputs are" in text
    assert "No plan of more than two devices does more." in text


def test_a_faster_device_without_the_data_is_named_and_no_more(said: Any) -> None:
    text = said((4.0, 1.0), (1.0, 4.0), (1.0, 1.0))
    assert "; the best single device, c, would do 4 images/s if the data were there." in text
    free = said((4.0, 1.0), (1.0, 4.0), (1.0, 1.0), ends="free", order="any")
    assert "2.00× c alone, the best single device (4 images/s)" in free
    assert "if the data were there" not in free


def test_limits_that_nothing_meets_are_listed_with_what_comes_nearest(said: Any) -> None:
    text = said((1.0, 1.0), (1.0, 1.0), max_latency_s=0.1, min_throughput_per_s=90.0, frame_rate_per_s=30.0)
    assert text.startswith(
        "No placement meets latency ≤ 100 ms and throughput ≥ 90 images/s and 30 frames/s: the lowest latency is 2 s"
        " (a[0:2]+b[2:2]), the highest throughput 8 images/s (a[0:1]+b[1:2])."
    )


def test_a_model_that_no_first_device_holds_has_nothing_to_be_held_against(said: Any, toy: Any) -> None:
    small = (toy.device("a", memory_bytes=4000), toy.device("b"))
    text = said((1.0, 1.0), (1.0, 1.0), devices=small)
    assert (
        "a[0:1]+b[1:2], 8 images/s at 2.01 s a batch: a, where the inputs are, does not hold the model alone." in text
    )
    nowhere = tuple(toy.device(name, memory_bytes=4000) for name in "ab")
    assert ": no device holds the model alone." in said((1.0, 1.0), (1.0, 1.0), devices=nowhere, ends="free")


def test_what_stands_in_the_way_is_said(said: Any) -> None:
    nowhere = (Forbid((0, 1), (0,)),)
    text = said((1.0, 1.0), (1.0, 1.0), forbids=nowhere)
    assert (
        text == "No placement is possible: what stands in the way is pins and forbids. Relax it, or give other devices."
    )


def test_an_unknown_error_and_an_overhead_bound_part_are_doubts(said: Any) -> None:
    assert "The error of a timing used here is not known" in said((1.0, 1.0), (1.0, 1.0), error=None)
    text = said((1.0, 1.0), (1.5, 0.5), overhead_bound="b")
    assert "Of b only the time of the whole model is known (its timing is overhead-bound)" in text
    assert "No conclusion" not in text
    both = said((1.0, 1.0), (1.0, 1.0), (1.0, 1.0), overhead_bound="bc")
    assert "No conclusion about sharing blocks out between b and c" in both


@pytest.mark.parametrize("mode", MODE_NAMES)
@pytest.mark.parametrize("same", [False, True], ids=["two timings", "one timing"])
def test_two_devices_are_told_apart_as_splits_are(toy: Any, mode: Any, same: bool) -> None:
    times = ((1.0, 1.1, 0.9, 1.0), (1.0, 1.1, 0.9, 1.0) if same else (1.1, 1.0, 1.0, 0.7))
    devices = (toy.device("a"), toy.device("a" if same else "b"))
    common: dict[str, Any] = {
        "model": toy.model((40, 30, 20, 10), inputs=50), "devices": devices, "mode": Mode.named(mode),
        "timings": tuple(toy.timing(t, device=d.name, error=0.07) for t, d in zip(times, devices, strict=True)),
    }  # fmt: skip
    link = toy.link(1e5)
    placement, prediction = (
        place(PlacementSetting(links=HopLinks(every=link), **common)),
        predict(Setting(link=link, **common)),
    )
    front = {row.split for row in prediction.front}
    for objective in ("latency", "throughput"):
        row = getattr(placement.recommended, objective)
        expected = resolution.indistinguishable(prediction, row.plan.split, objective)
        assert expected is not None
        found = indistinguishable(placement, row, objective)
        assert found is not None
        assert {other.plan.split for other in found} == {split for split in expected if split in front}


def test_plans_that_cannot_be_told_apart_are_named(said: Any) -> None:
    text = said((1.0, 1.0, 1.02), (1.01, 1.0, 1.0), (1.0, 1.0, 1.0), rate_bps=1e4, error=0.2)
    assert "In latency, a[0:3]+c[3:3] cannot be told apart from a[0:2]+c[2:3]: s" in text
    sure = said((1.0, 1.0, 1.02), (1.01, 1.0, 1.0), (1.0, 1.0, 1.0), rate_bps=1e4, error=0.001)
    assert "Stage times are measured with up to 0.1% error: a smaller gain than that cannot be told" in sure


def test_a_device_that_may_not_run_it_all_is_nothing_to_be_held_against(said: Any) -> None:
    text = said((1.0, 1.0), (1.0, 1.0), pins=(Pin(0, (1,)),))
    assert "One device is enough" not in text
    assert "pins or forbids keep a, where the inputs are, from running it all." in text
    text = said((1.0, 1.0), (3.0, 3.0), forbids=(Forbid((0,), (1,)),), ends="free")
    assert "1 b alone" not in text
    assert "b alone, the best single device" in text or "One device is enough: b" in text
