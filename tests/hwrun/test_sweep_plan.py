"""Which cells of a sweep are skipped, and the pace of the emulated ones."""

import re

import pytest

from hwrun.commands.sweep import parsed
from hwrun.commands.sweep_conditions import sweep_plan as planned
from hwrun.local import site
from hwrun.local.namespaces import Availability


def plan(*options):
    return planned(parsed(["--repeats", "1", "--mode", "single", *options]))


def test_where_shaping_is_not_permitted_shaped_cells_are_skipped_with_the_reason_and_unshaped_ones_are_not(monkeypatch):
    refused = Availability("none", reason="not permitted here", remedy="run as root")
    monkeypatch.setattr(site, "availability", lambda: refused)
    swept = plan("--splits", "14", "--link", "unshaped", "--link", "1gbit,1ms")
    reasons = {cell.link_name: swept.skip_reason(cell) for cell in swept.cells}
    assert reasons == {"unshaped": None, "1gbit,1ms": ("not permitted here", "run as root")}


def test_a_batch_of_103_megabytes_is_skipped_at_5_mbit_and_not_unshaped():
    swept = plan("--model", "vgg16", "--splits", "1", "--link", "5mbit,200ms", "--link", "unshaped")
    reasons = {cell.link_name: swept.skip_reason(cell) for cell in swept.cells}
    assert reasons["unshaped"] is None
    assert "--max-cell-time" in reasons["5mbit,200ms"][1]


def test_stages_that_compute_take_at_least_what_a_profile_of_their_device_says_and_are_skipped_by_it():
    def skipped(device, *options):
        swept = plan("--model", "vgg16", "--splits", "39", "--devices", f"{device},{device}", *options)
        return swept.skip_reason(swept.cells[0])

    reason, remedy = skipped("rpi4b")
    assert "more than --max-cell-time 60s" in reason
    (enough,) = re.findall(r"--max-cell-time (\S+) or more", remedy)
    assert skipped("rpi4b", "--max-cell-time", enough) is None
    assert skipped("without-profile") is None


def test_targets_are_the_profiles_block_times_over_the_speed_and_nothing_where_stages_compute():
    options = ("--splits", "0,7,21")
    slow, fast = (plan("--emulate", "rpi4b,rpi4b", "--speed", speed, *options) for speed in ("1", "20"))
    totals = [sum(slow.targets_s(cell)) for cell in slow.cells]
    assert totals == pytest.approx([totals[0]] * 3)
    for cell in slow.cells:
        assert slow.targets_s(cell)[0] == pytest.approx(20 * fast.targets_s(cell)[0])
        assert (slow.targets_s(cell)[0] == 0) is (cell.plan.split == 0)
    computing = plan(*options)
    assert computing.targets_s(computing.cells[0]) is None
    assert computing.timings == {}
    assert slow.timings.keys() == {"rpi4b/mobilenet_v2"}
