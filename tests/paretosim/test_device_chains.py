"""Chains of devices: how many there are, by counting arguments and by enumeration."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from paretosim.errors import BadInputError
from paretosim.placement.device_chains import Chains, Rules, chains


def rules(count: int, *, any_order: bool = True) -> Rules:
    return Rules(
        any_order=any_order,
        usable=np.ones(count, dtype=np.bool_),
        alike=tuple(range(count)),
        exclusive=np.zeros(count, dtype=np.bool_),
        longest=count,
        start=None,
        end=None,
        remember_start=False,
    )


def walks(found: Chains) -> list[tuple[int, ...]]:
    """All chains of the graph as devices in order."""
    ways: list[list[tuple[int, ...]]] = []
    for node, before in enumerate(found.before):
        device = int(found.device[node])
        own = [(*way, device) for previous in before for way in ways[previous]]
        ways.append(own + ([(device,)] if found.begins[node] else []))
    return sorted(way for node in range(len(found)) if found.ends[node] for way in ways[node])


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_any_order_has_every_arrangement_of_every_subset_once(count: int) -> None:
    found = walks(chains(rules(count)))
    assert found == sorted(way for size in range(1, count + 1) for way in permutations(range(count), size))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_given_order_has_every_subsequence_once(count: int) -> None:
    found = walks(chains(rules(count, any_order=False)))
    assert found == sorted(set(found))
    assert len(found) == 2**count - 1
    assert all(list(way) == sorted(way) for way in found)


def test_alike_devices_stand_for_each_other_once() -> None:
    names = "aabab"
    same = replace(rules(5), alike=(0, 0, 2, 0, 2))
    for any_order in (True, False):
        found = walks(chains(replace(same, any_order=any_order)))
        everything = walks(chains(rules(5, any_order=any_order)))
        kinds = ["".join(names[device] for device in way) for way in found]
        assert sorted(kinds) == sorted({"".join(names[device] for device in way) for way in everything})


def test_ends_length_and_exclusive_devices_are_kept() -> None:
    for any_order in (True, False):
        plain = walks(chains(rules(5, any_order=any_order)))
        fixed = walks(chains(replace(rules(5, any_order=any_order), start=0, end=4)))
        assert fixed == [way for way in plain if way[0] == 0 and way[-1] == 4]
        short = walks(chains(replace(rules(5, any_order=any_order), longest=2)))
        assert short == [way for way in plain if len(way) <= 2]
        exclusive = np.array([False, True, False, True, False])
        apart = walks(chains(replace(rules(5, any_order=any_order), exclusive=exclusive)))
        assert apart == [way for way in plain if not {1, 3} <= set(way)]


def test_a_remembered_start_is_that_of_every_chain_of_the_node() -> None:
    found = chains(replace(rules(4), remember_start=True))
    starts: list[set[int]] = []
    for node, before in enumerate(found.before):
        own = {int(found.device[node])} if found.begins[node] else set()
        starts.append(own.union(*(starts[previous] for previous in before)))
    assert starts == [{start} for start in found.start_device.tolist()]
    assert walks(found) == walks(chains(rules(4)))


def test_nodes_are_sets_with_a_last_device_and_too_many_are_refused() -> None:
    assert len(chains(rules(8))) == 8 * 2**7
    with pytest.raises(BadInputError, match="any order: got 13 devices, which can be arranged in too many ways"):
        chains(rules(13))
    assert len(chains(replace(rules(13), alike=(0,) * 13))) == 13
    assert math.comb(20, 2) * 2 + 20 == len(chains(replace(rules(20), longest=2)))
