"""Placements on k devices, held against every placement there is."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator
from itertools import combinations_with_replacement, pairwise, permutations
from typing import Any

import msgspec
import numpy as np
import pytest

from paretosim.block import Block, Model, TensorShape
from paretosim.calibration import ANY_DEVICE, TERMS, Calibration, DeviceTerms, MessageCost, Relay
from paretosim.device import Device, NetworkPower
from paretosim.errors import BadInputError
from paretosim.link import Link, parse_link
from paretosim.mode import MODE_NAMES, Mode
from paretosim.pareto import is_nondominated
from paretosim.placement.hop_links import HopLinks
from paretosim.placement.limits import Forbid, Pin
from paretosim.placement.placing import place, predict_plans
from paretosim.placement.rows import PlacementRow
from paretosim.placement.setting import PlacementSetting
from paretosim.prediction import predict
from paretosim.profiles import ProfileStore
from paretosim.setting import Setting
from paretosim.timing import BatchTiming, BlockTiming, Timing

STORE = ProfileStore()
ETHERNET = STORE.link("ethernet-1g")
# 8 bit/s and no headers: a link is taken for as many seconds as the message has bytes.
BYTE_A_SECOND = Link(
    schema_version=1, name="toy", rate_bps=8, one_way_delay_s=1, return_rate_bps=16, return_delay_s=2, header_bytes=0
)

# Devices (positions from 0) and cuts, both ends included: what a placement is, apart from what it costs.
Shape = tuple[tuple[int, ...], tuple[int, ...]]


def toy_model(cut_bytes: list[int], weights: list[int]) -> Model:
    shapes = [TensorShape(shape=(size,), dtype="uint8") for size in cut_bytes]
    blocks = tuple(
        Block(
            name=f"layer.{index}",
            flops=1,
            parameters=0,
            parameter_bytes=weight,
            buffer_bytes=0,
            outputs=(shape,),
            peak_activation_bytes=weight % 3,
        )
        for index, (shape, weight) in enumerate(zip(shapes[1:], weights, strict=True))
    )
    return Model(
        schema_version=1, name="toy", classes=1, input=shapes[0], flops_convention="", origin={}, blocks=blocks
    )


def toy_device(name: str, memory_bytes: int | None = None) -> Device:
    return Device(schema_version=1, name=name, title=name, memory_bytes=memory_bytes)


def toy_timing(device: str, block_s: list[float], **conditions: bool) -> Timing:
    blocks = tuple(BlockTiming(name=f"layer.{index}", value_s=value) for index, value in enumerate(block_s))
    return Timing(
        schema_version=1,
        device=device,
        model="toy",
        kind="measured",
        how="made up",
        batches=(BatchTiming(batch=1, blocks=blocks),),
        conditions=dict(conditions),
    )


def random_setting(seed: int) -> PlacementSetting:
    """A small instance; integer times, so that equal sums abound, in half of them, and identical devices in many."""
    rng = random.Random(seed)
    blocks, count = rng.randint(1, 8 if seed % 4 else 5), rng.randint(1, 4)

    def time_s() -> float:
        return rng.randint(0, 3) if seed % 2 else rng.lognormvariate(0, 1)

    model = toy_model([rng.randint(1, 3) for _ in range(blocks + 1)], [rng.choice([0, 1, 2, 9]) for _ in range(blocks)])
    kinds = [
        (
            toy_device(name, rng.choice([None, None, 12, 30])),
            toy_timing(name, [1 + time_s(), *(time_s() for _ in range(blocks - 1))]),
        )
        for name in "abcd"[: rng.randint(1, count)]
    ]
    chosen = [rng.choice(kinds) for _ in range(count)]
    own = {}
    for _ in range(rng.choice([0, 0, 1, 2]) if count > 1 else 0):
        start, end = rng.sample(range(count), 2)
        own[start, end] = msgspec.structs.replace(
            BYTE_A_SECOND, rate_bps=rng.choice([4, 8, 80]), one_way_delay_s=rng.randint(0, 3)
        )
    pins = [
        Pin(rng.randrange(blocks), tuple(sorted(rng.sample(range(count), rng.randint(1, count)))))
        for _ in range(rng.choice([0, 0, 0, 1, 2]))
    ]
    forbids = [
        Forbid((rng.randrange(count),), tuple(sorted(rng.sample(range(blocks), rng.randint(1, blocks)))))
        for _ in range(rng.choice([0, 0, 0, 1, 2]))
    ]
    ends, sink = rng.choice(["fixed", "free"]), rng.choice(["last", "first"])
    least = 2 if ends == "fixed" and sink == "last" and count > 1 else 1
    return PlacementSetting(
        model=model,
        devices=tuple(device for device, _ in chosen),
        timings=tuple(timing for _, timing in chosen),
        links=HopLinks(every=BYTE_A_SECOND, own=own),
        batch=1,
        mode=Mode.named(rng.choice([*MODE_NAMES, "paced", "paced"]), window=None),
        order=rng.choice(["given", "any"]),  # type: ignore[arg-type]  # one of the two
        ends=ends,  # type: ignore[arg-type]  # one of the two
        max_devices=rng.choice([None, rng.randint(least, count)]),
        pins=tuple(pins),
        forbids=tuple(forbids),
        source=rng.choice(["stage1", "sink"]),  # type: ignore[arg-type]  # one of the two
        sink=sink,  # type: ignore[arg-type]  # one of the two
        control_delay_s=rng.choice([0.0, 2.0]),
    )


def random_calibration(rng: random.Random, names: list[str]) -> Calibration:
    """Every term, or none, of each device; whole numbers, so that equal sums abound."""

    def cost() -> MessageCost:
        return MessageCost(message_s=rng.choice([0, 0, 1, 2]), bytes_per_s=rng.choice([None, 1, 2]))

    def terms() -> DeviceTerms:
        return DeviceTerms(
            gamma=rng.choice([1, 1, 2]), overhead_s=rng.choice([0, 1]), kappa=rng.choice([0, 0, 0.5, 1]),
            sending=cost(), receiving=cost(), copying_bytes_per_s=rng.choice([None, 0.5]),
            arriving_s=rng.choice([0, 1]), leaving_s=rng.choice([0, 2]), returning=cost(), launch_s=rng.choice([0, 1]),
            pcie_bytes_per_s=rng.choice([None, 1]),
        )  # fmt: skip

    named = [name for name in dict.fromkeys(names) if rng.random() < 0.7]
    return Calibration(
        schema_version=2, name="random", backend="tcp", devices={name: terms() for name in (*named, ANY_DEVICE)},
        framing_bytes=rng.choice([0, 1]), dispatch_s=rng.choice([0, 1]), rpc_round_trips=rng.choice([0, 0, 1]),
        rpc_s=1, relay=rng.choice([None, None, Relay(), Relay(rate_bps=16, delay_s=1)]),
    )  # fmt: skip


def with_calibration(setting: PlacementSetting, seed: int) -> PlacementSetting:
    rng = random.Random(seed)
    return msgspec.structs.replace(
        setting,
        devices=tuple(msgspec.structs.replace(device, accelerator="any") for device in setting.devices),
        calibration=random_calibration(rng, [device.name for device in setting.devices]),
        without=tuple(rng.sample(TERMS, rng.choice([0, 0, 1, 3]))),
    )


def every_shape(setting: PlacementSetting) -> Iterator[Shape]:
    """Every chain of devices with every way to cut, allowed or not, costly or not; identical devices told apart."""
    count, blocks = len(setting.devices), len(setting.model.blocks)
    for used in range(1, min(setting.max_devices or count, count) + 1):
        for chain in permutations(range(count), used):
            if setting.order == "given" and list(chain) != sorted(chain):
                continue
            if setting.ends == "fixed" and chain[0] != 0:
                continue
            if setting.ends == "fixed" and setting.sink == "last" and chain[-1] != count - 1:
                continue
            for cuts in combinations_with_replacement(range(blocks + 1), used - 1):
                yield chain, (0, *cuts, blocks)


def is_allowed(setting: PlacementSetting, chain: tuple[int, ...], cuts: tuple[int, ...]) -> bool:
    for index, (device, (first, last)) in enumerate(zip(chain, pairwise(cuts), strict=True)):
        blocks = setting.model.blocks[first:last]
        if not blocks:
            forwards = setting.ends == "fixed" and index == 0 and len(chain) > 1
            receives = setting.ends == "fixed" and setting.sink == "last" and index == len(chain) - 1 > 0
            if not forwards and not receives:
                return False
        sizes = setting.model.cut_bytes()
        need = sum(block.weight_bytes for block in blocks) + sizes[first] + sizes[last]
        need += max((block.peak_activation_bytes for block in blocks), default=0)
        if need > setting.devices[device].usable_bytes:
            return False
        if any(first <= pin.block < last and device not in pin.devices for pin in setting.pins):
            return False
        if any(device in f.devices and first <= block < last for f in setting.forbids for block in f.blocks):
            return False
    return True


def times(setting: PlacementSetting, chain: tuple[int, ...], cuts: tuple[int, ...]) -> tuple[float, float]:
    """Latency of a batch alone and the slowest station."""
    services, waits, _ = line_of(setting, chain, cuts)
    return sum(services) + sum(waits), max(services)


def line_of(
    setting: PlacementSetting, chain: tuple[int, ...], cuts: tuple[int, ...]
) -> tuple[list[float], list[float], list[float]]:
    """Services of all stations, what a batch waits, and those of its stages, without the code under test."""
    own, every = setting.links.own, setting.links.every
    sizes = setting.model.cut_bytes()
    calibration = Calibration(schema_version=2, name="none", backend="tcp")
    if setting.calibration is not None:
        calibration = setting.calibration.without(*setting.without)
    terms = [calibration.of(setting.devices[device].name) for device in chain]
    services, waits = [], [setting.control_delay_s + calibration.dispatch_s]
    beside: list[list[float]] = [[] for _ in chain]

    def crossed(sender: int, receiver: int, cut: int, link: Link | None, *, leaves: bool, arrives: bool) -> float:
        """Adds one hop between two stages, and says how long its bytes are on the wire; no link is memory."""
        size = sizes[cut] + calibration.framing_bytes
        wire = 0.0 if link is None else size * 8 / link.rate_bps
        through = max(size / (terms[end].copying_bytes_per_s or math.inf) for end in (sender, receiver))
        costs = (terms[sender].sending, terms[receiver].receiving)
        services.extend(of.message_s + size / (of.bytes_per_s or math.inf) for of in costs)
        services[-2] += max(wire, through)
        waits.append(terms[sender].leaving_s * leaves + terms[receiver].arriving_s * arrives)
        if link is not None and "delay" not in setting.without:
            waits[-1] += link.one_way_delay_s
        return wire

    for k, ((one, two), cut) in enumerate(zip(pairwise(chain), cuts[1:], strict=False)):
        link = own.get((one, two)) or (own[two, one].reverse() if (two, one) in own else every)
        relay = calibration.relay
        wire = crossed(k, k + 1, cut, link, leaves=True, arrives=relay is None)
        services[-2] += calibration.rpc_round_trips * (link.rtt_s + calibration.rpc_s)
        beside[k].append(wire)
        if relay is not None:
            link = None
            if relay.rate_bps is not None:
                link = msgspec.structs.replace(every, rate_bps=relay.rate_bps, one_way_delay_s=relay.delay_s)
            wire = crossed(k + 1, k + 1, cut, link, leaves=False, arrives=True)
        beside[k + 1].append(wire)
    if len(chain) > 1 and (setting.sink == "first" or setting.source == "sink"):
        one, two = chain[-1], chain[0]
        link = own.get((one, two)) or (own[two, one].reverse() if (two, one) in own else every.reverse())
        back = setting.sink == "first"
        wire = crossed(len(chain) - 1, 0, -1 if back else 0, link, leaves=back, arrives=not back)
        beside[0].append(wire)
        beside[-1].append(wire)
    if setting.sink == "last" or len(chain) == 1:
        returning = terms[-1].returning
        waits.append(terms[-1].leaving_s + returning.message_s + sizes[-1] / (returning.bytes_per_s or math.inf))
    alone = setting.mode.name == "single"
    stages = []
    for k, (first, last) in enumerate(pairwise(cuts)):
        known = terms[k]
        stage = known.gamma * sum(setting.timings[chain[k]].at_batch(1)[0][first:last])
        if first < last:
            moved = sizes[first] + sizes[last]
            stage += known.overhead_s + known.launch_s + moved / (known.pcie_bytes_per_s or math.inf)
        stages.append(stage + (0 if alone else known.kappa * sum(min(stage, wire) for wire in beside[k])))
    return [*services, *stages], waits, stages


def in_mode(mode: Mode, latency: float, slowest: float) -> tuple[float, float]:
    if mode.name == "single":
        return latency, latency
    if mode.name == "paced":
        return latency, slowest
    if mode.window is not None:
        return max(latency, mode.window * slowest), max(slowest, latency / mode.window)
    assert mode.batches is not None
    waiting = mode.batches - 1
    return latency + waiting / 2 * slowest, (latency + waiting * slowest) / mode.batches


def rounded(*values: float) -> tuple[float, ...]:
    """To 9 digits, from 12 as objectives have them: rounding twice is not rounding once."""
    return tuple(float(f"{float(f'{value:.12g}'):.9g}") for value in values)


def shown(setting: PlacementSetting, chain: tuple[int, ...], cuts: tuple[int, ...]) -> str:
    stages = zip(chain, pairwise(cuts), strict=True)
    return "+".join(f"{setting.devices[device].name}[{first}:{last}]" for device, (first, last) in stages)


def plan_stages(row: PlacementRow) -> list[str]:
    return ["+".join(map(str, plan.stages)) for plan in (row.plan, *row.tied)]


@pytest.mark.parametrize("calibrated", [False, True], ids=["plain", "calibrated"])
@pytest.mark.parametrize("seeds", [range(start, start + 50) for start in range(0, 300, 50)], ids=str)
def test_front_equals_that_of_every_placement(seeds: range, calibrated: bool) -> None:
    found_any = False
    for seed in seeds:
        setting = random_setting(seed)
        if calibrated:
            setting = with_calibration(setting, seed)
        shapes = [shape for shape in every_shape(setting) if is_allowed(setting, *shape)]
        rows = place(setting).rows
        assert bool(rows) == bool(shapes), seed
        if not shapes:
            continue
        found_any = True
        plain = [rounded(*times(setting, *shape)) for shape in shapes]
        on_plain_front = is_nondominated(plain)
        objectives = [rounded(*in_mode(setting.mode, *times(setting, *shape))) for shape in shapes]
        # Of placements that are equal in the mode, those of the least latency and period when fed otherwise are named.
        on_front = is_nondominated(objectives) & on_plain_front
        expected = {value for value, kept in zip(objectives, on_front, strict=True) if kept}
        assert expected == {v for v, kept in zip(objectives, is_nondominated(objectives), strict=True) if kept}, seed
        assert {rounded(row.latency_s, row.period_s) for row in rows} == expected, seed
        # Identical devices: exchanging them gives the same stages on the same names (own links tell them apart).
        names = Counter(shown(setting, *shape) for shape, kept in zip(shapes, on_front, strict=True) if kept)
        listed = [stages for row in rows for stages in plan_stages(row)]
        assert set(listed) <= set(names), seed
        if not setting.links.own and not setting.pins and not setting.forbids and setting.ends == "free":
            assert sum(1 + row.ties for row in rows) == len(names), seed
            assert len(listed) == len(set(listed)), seed
        if all(row.ties == len(row.tied) for row in rows):
            assert set(listed) == set(names), seed
    assert found_any


def all_figures(setting: PlacementSetting, chain: tuple[int, ...], cuts: tuple[int, ...]) -> dict[str, float]:
    """A placement in every objective, to be minimised."""
    latency, period = in_mode(setting.mode, *times(setting, chain, cuts))
    _, _, stages = line_of(setting, chain, cuts)
    devices = [setting.devices[device] for device in chain]
    sizes = setting.model.cut_bytes()
    calibration = setting.calibration.without(*setting.without) if setting.calibration else None
    framing = calibration.framing_bytes if calibration else 0
    forward = [sizes[cut] + framing for cut in cuts[1:-1]]
    relay = calibration.relay if calibration else None
    sent = sum(forward) * (2 if relay is not None and relay.rate_bps is not None else 1)
    closes = len(chain) > 1 and (setting.sink == "first" or setting.source == "sink")
    closing = sizes[-1 if setting.sink == "first" else 0] + framing
    sent += closing if closes else 0
    need = 0.0
    for first, last in pairwise(cuts):
        blocks = setting.model.blocks[first:last]
        peak = max((block.peak_activation_bytes for block in blocks), default=0)
        need = max(need, sum(block.weight_bytes for block in blocks) + sizes[first] + sizes[last] + peak)
    idle, busy = ([getattr(device, f"{kind}_power_w") or 0.0 for device in devices] for kind in ("idle", "busy"))
    drawn = sum(idle) * period + sum((b - i) * c for b, i, c in zip(busy, idle, stages, strict=True))
    networks = [device.network_power for device in devices]
    out, taken_in = (
        [getattr(power, field, 0.0) for power in networks] for field in ("sent_j_per_byte", "received_j_per_byte")
    )
    for k, size in enumerate(forward):
        drawn += size * (out[k] + taken_in[k + 1])
        if relay is not None and relay.rate_bps is not None:
            drawn += size * (out[k + 1] + taken_in[k + 1])
    if closes:
        drawn += closing * (out[-1] + taken_in[0])
    return {"latency": latency, "throughput": period, "energy": drawn, "memory": need, "bytes": sent}


@pytest.mark.parametrize("seeds", [range(start, start + 40) for start in range(0, 160, 40)], ids=str)
def test_fronts_in_other_objectives_equal_those_of_every_placement(seeds: range) -> None:
    for seed in seeds:
        setting = random_setting(seed)
        if seed % 3:
            setting = with_calibration(setting, seed)
        rng = random.Random(seed)
        powers = {device.name: (rng.choice([0.5, 1.0]), rng.choice([1.0, 3.0])) for device in setting.devices}
        networks = {
            device.name: rng.choice(
                [msgspec.UNSET, NetworkPower(sent_j_per_byte=rng.uniform(0, 1e-3), received_j_per_byte=1e-4)]
            )
            for device in setting.devices
        }
        devices = tuple(
            msgspec.structs.replace(
                device, idle_power_w=powers[device.name][0], busy_power_w=powers[device.name][1],
                network_power=networks[device.name],
            )
            for device in setting.devices
        )  # fmt: skip
        setting = msgspec.structs.replace(setting, devices=devices)
        names = rng.sample(["latency", "throughput", "energy", "memory", "bytes"], rng.randint(1, 4))
        if set(names) == {"latency", "throughput"}:
            continue
        shapes = [shape for shape in every_shape(setting) if is_allowed(setting, *shape)]
        found = place(setting, names)
        assert bool(found.rows) == bool(shapes), seed
        figures = [rounded(*(all_figures(setting, *shape)[name] for name in names)) for shape in shapes]
        expected = (
            {v for v, kept in zip(figures, is_nondominated(figures).tolist(), strict=True) if kept}
            if figures
            else set()
        )
        scale = {"throughput": lambda row: row.period_s}
        shown_rows = {
            rounded(*(scale[o.name](row) if o.name in scale else o.of(found.figures(row)) for o in found.objectives))
            for row in found.rows
        }
        assert shown_rows == expected, seed
        for objective in found.objectives:
            best = found.best(objective)
            if best is not None and setting.max_latency_s is None:
                place_of = names.index(objective.name)
                value = rounded(
                    scale[objective.name](best) if objective.name in scale else objective.of(found.figures(best))
                )
                assert value[0] == min(value[place_of] for value in expected), seed


def test_more_placements_than_can_be_gone_through_are_refused_with_what_to_do() -> None:
    setting = msgspec.structs.replace(toy_setting(count=8, blocks=60), ends="free")
    with pytest.raises(
        BadInputError, match=r"objectives: got .* placements, expected 1000000 at most for a front in latency, memory"
    ):
        place(setting, ["latency", "memory"])
    with pytest.raises(BadInputError, match="objectives: energy needs idle_power_w and busy_power_w of a, not known"):
        place(toy_setting(count=2), ["energy"])


def labels_front(setting: PlacementSetting) -> list[tuple[float, float]]:
    """(latency, period) on the front of a chain with free ends, by keeping every undominated label of every state."""

    def undominated(labels: list[tuple[float, float]]) -> list[tuple[float, float]]:
        kept: list[tuple[float, float]] = []
        for latency, period in sorted(set(labels)):
            if not kept or period < kept[-1][1]:
                kept.append((latency, period))
        return kept

    blocks, link = len(setting.model.blocks), setting.links.every
    hop_s = [size * 8 / link.rate_bps for size in setting.model.cut_bytes()]
    departed: list[list[list[tuple[float, float]]]] = []
    for timing in setting.timings:
        before = np.cumsum([0.0, *timing.at_batch(1)[0]]).tolist()
        arrived = [
            undominated(
                [
                    (latency + hop_s[cut] + link.one_way_delay_s, max(period, hop_s[cut]))
                    for earlier in departed
                    for latency, period in earlier[cut]
                ]
                + ([(0.0, 0.0)] if cut == 0 else [])
            )
            for cut in range(blocks)
        ]
        departed.append(
            [
                undominated(
                    [
                        (latency + before[last] - before[first], max(period, before[last] - before[first]))
                        for first in range(last)
                        for latency, period in arrived[first]
                    ]
                )
                for last in range(blocks + 1)
            ]
        )
    return undominated([label for device in departed for label in device[blocks]])


@pytest.mark.parametrize("seed", range(3))
def test_front_equals_that_of_all_labels_where_enumeration_is_out_of_reach(seed: int) -> None:
    setting = toy_setting(count=5, blocks=24, seed=seed, ends="free")
    rows = place(setting).rows
    # Rounded: sums in another order break ties in their last bits, which leaves labels that are none.
    points = [rounded(*label) for label in labels_front(setting)]
    expected = {point for point, kept in zip(points, is_nondominated(points), strict=True) if kept}
    assert {rounded(row.latency_s, row.period_s) for row in rows} == expected
    assert len(rows) > 5


def test_front_has_every_plan_of_two_shipped_devices_that_predict_has() -> None:
    for name in STORE.names("models"):
        for devices in (("rpi4b", "rpi4b"), ("rpi4b", "rtx4090")):
            for link in (ETHERNET, parse_link("5mbit,200ms", ETHERNET)):
                for mode in MODE_NAMES:
                    for source, sink in (("stage1", "last"), ("sink", "last"), ("stage1", "first")):
                        common: dict[str, Any] = {
                            "model": STORE.model(name),
                            "devices": tuple(STORE.device(device) for device in devices),
                            "timings": tuple(STORE.timing(device, name) for device in devices),
                            "mode": Mode.named(mode),
                            "source": source,
                            "sink": sink,
                        }
                        rows = place(PlacementSetting(links=HopLinks(every=link), **common)).rows
                        front = predict(Setting(link=link, **common)).front
                        figures = sorted({rounded(row.latency_s, row.period_s) for row in rows})
                        assert figures == sorted({rounded(row.latency_s, row.period_s) for row in front})
                        splits = {plan.stages[0].last for row in rows for plan in (row.plan, *row.tied)}
                        if mode in ("paced", "burst"):
                            assert splits == {row.split for row in front}
                        else:  # of equal ones those that are no worse when fed otherwise
                            assert splits <= {row.split for row in front}
                        by_split = {row.split: row for row in front}
                        for row in rows:
                            other = by_split[row.plan.stages[0].last]
                            assert row.bottleneck == other.bottleneck
                            assert row.memory_bytes == other.memory_bytes[: len(row.memory_bytes)]
                            assert row.latency_s == pytest.approx(other.latency_s, rel=1e-11)


@pytest.mark.parametrize("mode", MODE_NAMES)
@pytest.mark.parametrize("ends", [("stage1", "last"), ("sink", "last"), ("stage1", "first")], ids=str)
@pytest.mark.parametrize("seed", range(6))
def test_two_devices_with_a_calibration_are_what_predict_says(mode: Any, ends: tuple[Any, Any], seed: int) -> None:
    names = ("rpi4b", "x86-core")
    source, sink = ends
    setting = PlacementSetting(
        model=STORE.model("alexnet"),
        devices=tuple(
            msgspec.structs.replace(STORE.device(name), accelerator="any", memory_bytes=None) for name in names
        ),
        timings=tuple(STORE.timing(name, "alexnet") for name in names),
        links=HopLinks(every=parse_link("50mbit,20ms", ETHERNET)), mode=Mode.named(mode), source=source, sink=sink,
        tcp_state="cold",
    )  # fmt: skip
    rng = random.Random(seed)
    # In milliseconds and 100 MB/s, so that no term drowns the others.
    scaled = {
        "message_s": 1e-3,
        "bytes_per_s": 1e8,
        "copying_bytes_per_s": 1e7,
        "pcie_bytes_per_s": 1e8,
    } | dict.fromkeys(("overhead_s", "launch_s", "arriving_s", "leaving_s"), 1e-2)

    def scale(value: Any) -> Any:
        if isinstance(value, DeviceTerms | MessageCost):
            changes = {name: scale(getattr(value, name)) for name in value.__struct_fields__}
            changes |= {name: changes[name] * factor for name, factor in scaled.items() if changes.get(name)}
            return msgspec.structs.replace(value, **changes)
        return value

    calibration = random_calibration(rng, list(names))
    calibration = msgspec.structs.replace(
        calibration, devices={name: scale(terms) for name, terms in calibration.devices.items()}, dispatch_s=0.003,
        framing_bytes=4000, rpc_s=0.001, relay=calibration.relay and Relay(rate_bps=4e7, delay_s=0.001),
    )  # fmt: skip
    without = tuple(rng.sample(TERMS, 2))
    setting = msgspec.structs.replace(setting, calibration=calibration, without=without)
    fields = {name: getattr(setting, name) for name in Setting.__struct_fields__ if hasattr(setting, name)}
    predicted = predict(Setting(link=setting.links.every, **fields))
    rows = place(setting).rows
    assert {rounded(row.latency_s, row.period_s) for row in rows} == {
        rounded(row.latency_s, row.period_s) for row in predicted.front
    }
    for row in rows:
        other = predicted.row(row.plan.stages[0].last)
        assert row.latency_s == pytest.approx(other.latency_s, rel=1e-11)
        assert (row.bottleneck, row.latency_from_start_s) == (
            other.bottleneck,
            pytest.approx(other.latency_from_start_s),
        )
        assert row.stages_s == pytest.approx(other.stages_s[: len(row.stages_s)])
        if len(row.positions) == 2:
            assert row.hops == predicted.hops
            for name in ("links_s", "stalls_s", "delays_s", "sending_s", "receiving_s", "handovers_s"):
                said = getattr(other, name) or (0.0,) * len(getattr(row, name) or ())
                assert (getattr(row, name) or ()) == pytest.approx(said)
    for alone, baseline in zip(place(setting).alone, predicted.baselines, strict=True):
        assert alone.latency_s == pytest.approx(baseline.latency_s)


def toy_setting(count: int = 3, blocks: int = 6, seed: int = 5, **changes: Any) -> PlacementSetting:
    rng = random.Random(seed)
    names = "abcdefgh"[:count]
    setting = PlacementSetting(
        model=toy_model([rng.randint(1, 3) for _ in range(blocks + 1)], [1] * blocks),
        devices=tuple(toy_device(name) for name in names),
        timings=tuple(toy_timing(name, [rng.uniform(1, 9) for _ in range(blocks)]) for name in names),
        links=HopLinks(every=BYTE_A_SECOND),
        batch=1,
    )
    return msgspec.structs.replace(setting, **changes)


def is_covered(points: tuple[PlacementRow, ...], by: tuple[PlacementRow, ...]) -> bool:
    """Whether every point is equalled or beaten in both objectives."""
    return all(
        any(b.latency_s <= p.latency_s * (1 + 1e-9) and b.period_s <= p.period_s * (1 + 1e-9) for b in by)
        for p in points
    )


@pytest.mark.parametrize("seed", range(8))
def test_a_device_more_never_makes_the_front_worse(seed: int) -> None:
    more = toy_setting(count=4, seed=seed)
    for order in ("given", "any"):
        for ends, left_out in (("free", 0), ("free", 3), ("fixed", 1), ("fixed", 2)):
            kept = [index for index in range(4) if index != left_out]
            changes = {"order": order, "ends": ends}
            fewer = msgspec.structs.replace(
                more,
                devices=tuple(more.devices[index] for index in kept),
                timings=tuple(more.timings[index] for index in kept),
                **changes,
            )
            assert is_covered(place(fewer).rows, place(msgspec.structs.replace(more, **changes)).rows)


@pytest.mark.parametrize("seed", range(4))
def test_freedom_never_makes_the_front_worse_and_limits_never_better(seed: int) -> None:
    setting = toy_setting(count=4, seed=seed, ends="free")
    rows = place(setting).rows
    assert is_covered(rows, place(msgspec.structs.replace(setting, order="any")).rows)
    for limits in ({"max_devices": 2}, {"pins": (Pin(2, (1,)),)}, {"forbids": (Forbid((0, 3), (4,)),)}):
        assert is_covered(place(msgspec.structs.replace(setting, **limits)).rows, rows)


def test_identical_devices_are_counted_once() -> None:
    timing = toy_timing("a", [1.0, 1.0, 1.0])
    setting = PlacementSetting(
        model=toy_model([1, 1, 1, 1], [0, 0, 0]),
        devices=(toy_device("a"),) * 4,
        timings=(timing,) * 4,
        links=HopLinks(every=BYTE_A_SECOND),
        batch=1,
        ends="free",
    )
    for order in ("given", "any"):
        rows = place(msgspec.structs.replace(setting, order=order)).rows
        assert [[str(row.plan), *map(str, row.tied)] for row in rows] == [
            ["toy@a[0:3]/b1/w-/tcp/f32"],
            ["toy@a[0:1]+a[1:3]/b1/w-/tcp/f32", "toy@a[0:2]+a[2:3]/b1/w-/tcp/f32"],
            ["toy@a[0:1]+a[1:2]+a[2:3]/b1/w-/tcp/f32"],
        ]
        assert [row.ties for row in rows] == [0, 1, 0]


def test_ties_are_all_counted_though_only_some_are_listed() -> None:
    setting = PlacementSetting(
        model=toy_model([1] * 21, [0] * 20),
        devices=tuple(toy_device(name) for name in "abc"),
        timings=tuple(toy_timing(name, [20.0, *[0.0] * 19]) for name in "abc"),
        links=HopLinks(every=BYTE_A_SECOND),
        batch=1,
        pins=(Pin(0, (0,)), Pin(19, (2,))),
    )
    (row,) = place(setting).rows
    assert (row.latency_s, row.period_s, row.plan.cuts) == (22.0, 20.0, (1,))
    assert row.ties == 18
    assert [plan.cuts for plan in row.tied] == [(cut,) for cut in range(2, 10)]


def test_times_that_people_write_in_decimals_tie() -> None:
    setting = PlacementSetting(
        model=toy_model([1, 1, 1, 1], [0, 0, 0]),
        devices=tuple(toy_device(name) for name in "ab"),
        timings=(toy_timing("a", [0.1, 0.2, 0.7]), toy_timing("b", [0.7, 0.3, 0.7])),
        links=HopLinks(every=BYTE_A_SECOND),
        batch=1,
        pins=(Pin(0, (0,)), Pin(2, (1,))),
    )
    rows = place(setting).rows
    assert [[row.plan.cuts, row.ties] for row in rows] == [[(2,), 0]]
    tied = msgspec.structs.replace(
        setting, timings=(toy_timing("a", [0.1, 0.2, 0.7]), toy_timing("b", [0.7, 0.2, 0.7]))
    )
    assert [[row.plan.cuts, row.ties] for row in place(tied).rows] == [[(1,), 1]]


def test_a_link_of_its_own_counts_for_one_hop_and_its_way_back() -> None:
    slow = msgspec.structs.replace(BYTE_A_SECOND, rate_bps=0.08, return_rate_bps=8, one_way_delay_s=50)
    setting = toy_setting(pins=(Pin(0, (0,)), Pin(5, (2,))))
    plain = place(setting).rows
    own = place(msgspec.structs.replace(setting, links=HopLinks(every=BYTE_A_SECOND, own={(0, 2): slow}))).rows
    assert {row.positions for row in plain} != {row.positions for row in own}
    assert {row.positions for row in own} == {(1, 2, 3)}
    links = HopLinks(every=BYTE_A_SECOND, own={(0, 2): slow})
    assert links.forward(2, 0) == links.back(2, 0) == slow.reverse()
    assert links.back(1, 0) == BYTE_A_SECOND.reverse()
    assert links.forward(1, 0) == BYTE_A_SECOND


def test_two_devices_whose_timings_are_overhead_bound_never_share_blocks() -> None:
    setting = toy_setting(count=4, blocks=3, order="any")
    bound = tuple(toy_timing(name, [0.5] * 3, overhead_bound=name in "bd") for name in "abcd")
    for order in ("given", "any"):
        for ends in ("free", "fixed"):
            changed = msgspec.structs.replace(setting, timings=bound, order=order, ends=ends)
            placement = place(changed)
            assert placement.unjudged == ((2, 4),)
            shapes = [shape for shape in every_shape(changed) if is_allowed(changed, *shape)]
            kept = [shape for shape in shapes if not {1, 3} <= set(shape[0])]
            assert kept != shapes
            plain = [rounded(*times(changed, *shape)) for shape in kept]
            expected = {value for value, on in zip(plain, is_nondominated(plain), strict=True) if on}
            assert {rounded(row.latency_s, row.period_s) for row in placement.rows} == expected
    only = toy_setting(count=2, blocks=3)
    both = tuple(toy_timing(name, [1.0] * 3, overhead_bound=True) for name in "ab")
    refused = place(msgspec.structs.replace(only, timings=both))
    assert (refused.rows, refused.obstacle) == ((), "that timings are overhead-bound")


def test_what_stands_in_the_way_is_named() -> None:
    small = tuple(toy_device(name, 5) for name in "abc")
    setting = toy_setting()
    assert place(setting).obstacle is None
    cramped = place(msgspec.structs.replace(setting, devices=small))
    assert (cramped.rows, cramped.obstacle) == ((), "the devices' memory")
    crossed = place(msgspec.structs.replace(setting, pins=(Pin(0, (2,)), Pin(3, (0,)))))
    assert (crossed.rows, crossed.obstacle) == ((), "pins and forbids")
    assert crossed.recommended.knee is None


def test_a_delay_far_beyond_all_others_leaves_the_rest_exact() -> None:
    setting = toy_setting(blocks=8, pins=(Pin(0, (0,)),))
    endless = msgspec.structs.replace(BYTE_A_SECOND, one_way_delay_s=1e14, return_delay_s=1e14)
    links = HopLinks(every=BYTE_A_SECOND, own={(0, 2): endless})
    rows = place(msgspec.structs.replace(setting, links=links)).rows
    three = [row for row in rows if row.positions == (1, 2, 3)]
    shapes = [(chain, cuts) for chain, cuts in every_shape(setting) if chain == (0, 1, 2)]
    allowed = [shape for shape in shapes if is_allowed(setting, *shape)]
    plain = [rounded(*times(setting, *shape)) for shape in allowed]
    expected = {value for value, on in zip(plain, is_nondominated(plain), strict=True) if on}
    assert {rounded(row.latency_s, row.period_s) for row in three} == expected
    assert len(expected) > 2


def test_times_too_large_for_a_number_are_refused() -> None:
    never = msgspec.structs.replace(BYTE_A_SECOND, rate_bps=1e-308)
    with pytest.raises(BadInputError, match="placement: a time is too large for a number at 1e-308 bit/s"):
        place(toy_setting(links=HopLinks(every=never)))


def test_constraints_leave_the_front_and_narrow_what_is_recommended() -> None:
    setting = toy_setting()
    free = place(setting)
    assert len(free.rows) > 2
    middle = free.rows[1]
    limited = place(msgspec.structs.replace(setting, max_latency_s=middle.latency_s))
    assert [row.plan for row in limited.rows] == [row.plan for row in free.rows]
    assert limited.recommended.throughput is not None
    assert limited.recommended.throughput.plan == middle.plan
    assert [row.meets_constraints for row in limited.rows] == [row.latency_s <= middle.latency_s for row in free.rows]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_devices": 1}, "max_devices: got 1, expected 2 or more, since inputs are at the first"),
        ({"batch": 0}, "batch: got 0, expected 1 to"),
        ({"timings": ()}, "devices: got 3 and 0 timings, expected one timing for each"),
        ({"control_delay_s": -1.0}, "control_delay_s: got -1.0, expected a finite time of 0 or more"),
        ({"max_latency_s": 0.0}, "max_latency_s: got 0.0, expected a finite number above zero"),
    ],
)
def test_unusable_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        toy_setting(**changes)


def test_many_devices_can_be_searched_in_any_order_a_few_at_a_time() -> None:
    many = [f"d{index}" for index in range(20)]
    setting = PlacementSetting(
        model=toy_model([1, 1, 1], [0, 0]),
        devices=tuple(toy_device(name) for name in many),
        timings=tuple(toy_timing(name, [20.0 + index, 40.0 - index]) for index, name in enumerate(many)),
        links=HopLinks(every=BYTE_A_SECOND),
        batch=1,
        order="any",
        ends="free",
        max_devices=2,
    )
    rows = place(setting).rows
    assert [(str(row.plan), row.ties) for row in rows] == [
        ("toy@d0[0:1]+d19[1:2]/b1/w-/tcp/f32", 0),
    ]
    alone = place(msgspec.structs.replace(setting, max_devices=1)).rows
    assert [(row.latency_s, row.ties, len(row.tied)) for row in alone] == [(60.0, 19, 8)]


def test_plans_are_predicted_wherever_they_are() -> None:
    setting = toy_setting(count=3, blocks=6)
    rows = place(setting).rows
    assert predict_plans(setting, [row.plan for row in rows]) == tuple(
        msgspec.structs.replace(row, ties=0, tied=()) for row in rows
    )
    (row,) = predict_plans(setting, ["toy@c[0:1]+a[1:5]+b[5:6]/b1/w-/tcp/f32"])  # in another order, and on no front
    assert row.positions == (3, 1, 2)
    assert rounded(row.latency_s, row.period_s) == rounded(*times(setting, (2, 0, 1), (0, 1, 5, 6)))
    for plan, said in (
        ("toy@a[0:1]+d[1:6]/b1/w-/tcp/f32", "has a stage on d, expected devices of a, b, c, each once"),
        ("toy@a[0:1]+a[1:6]/b1/w-/tcp/f32", "has a stage on a, expected devices of a, b, c, each once"),
        ("toy@a[0:1]+b[1:5]/b1/w-/tcp/f32", "ends at block 5, expected 6"),
        ("toy@a[0:1]+b[1:6]/b2/w-/tcp/f32", r"got toy@.*/b2/.*, expected one such as toy@.*/b1/"),
    ):
        with pytest.raises(BadInputError, match=said):
            predict_plans(setting, [plan])
