"""Which cells a sweep has, and which would take too long."""

import itertools

import msgspec
import pytest

from hwrun.errors import BadUsageError
from hwrun.planned_cell import Crossing
from hwrun.sweeps.cells import AskedLinks, cells_identity, parse_asked_link, parse_asked_links, parse_splits, plan_cells
from paretosim.errors import BadInputError
from paretosim.mode import Mode
from paretosim.plan import Plan
from paretosim.profiles import ProfileStore, write_profile
from tests.hwrun.planned_cells import DURESS, STORE, planned_cell


def cells(seed=0, repeats=3, **changes):
    model = STORE.model("mobilenet_v2")
    options = {
        "plans": [
            Plan.two_devices(model.name, len(model.blocks), split, ("rpi4b", "rpi4b")) for split in (0, 7, 14, 21)
        ],
        "links": [AskedLinks("unshaped", (None,)), parse_asked_links("5mbit,200ms", STORE)],
        "modes": [Mode.named("single"), Mode.named("closed", window=3)],
        "source": "stage1",
        "sink": "last",
    }
    return plan_cells(**{**options, **changes}, repeats=repeats, seed=seed)


def test_every_combination_is_there_once_a_repeat_and_repeats_come_one_after_the_other():
    planned = cells()
    assert len(planned) == 3 * 4 * 2 * 2
    assert len({c.cell_id for c in planned}) == len(planned)
    assert [c.repeat for c in planned] == sorted(c.repeat for c in planned)


def test_order_is_random_differs_between_repeats_and_is_the_seeds():
    orders = [[str(c.plan) + str(c.mode) + c.link_name for c in cells() if c.repeat == r] for r in range(3)]
    assert len({tuple(order) for order in orders}) == 3
    assert sorted(orders[0]) == sorted(orders[1])
    assert cells() == cells()
    assert cells_identity(cells()) != cells_identity(cells(seed=1))


def test_models_and_in_them_plans_are_blocks_so_that_what_they_need_is_made_once():
    models = {name: len(STORE.model(name).blocks) for name in ("mobilenet_v2", "alexnet", "resnet18")}
    plans = [
        Plan.two_devices(name, blocks, split, ("rpi4b", "rpi4b"))
        for split in (1, 5, 9)
        for name, blocks in models.items()
    ]
    for repeat in range(3):
        own = [c for c in cells(plans=plans, backends=["tcp", "rpc"]) if c.repeat == repeat]
        assert len([name for name, _ in itertools.groupby(own, lambda c: c.plan.model)]) == 3
        assert len([key for key, _ in itertools.groupby(own, lambda c: (c.plan.model, c.plan.stages))]) == 9
    blocks = [list(block) for _, block in itertools.groupby(cells(), lambda c: (c.repeat, c.plan.stages))]
    assert len({tuple((c.mode.name, c.link_name) for c in block) for block in blocks}) > 3


def test_only_closed_plans_name_a_window():
    assert {c.plan.window for c in cells() if c.mode.name == "closed"} == {3}
    assert {c.plan.window for c in cells() if c.mode.name == "single"} == {None}


@pytest.mark.parametrize(
    ("text", "splits"),
    [("all", range(22)), ("interior", range(1, 21)), ("3", [3]), ("14,18-20,14", [14, 18, 19, 20]), ("0,21", [0, 21])],
)
def test_splits_read_as_written(text, splits):
    assert parse_splits(text, 21) == tuple(splits)


@pytest.mark.parametrize("text", ["", "x", "3-", "5-3", "1,,2", "-1"])
def test_what_is_no_list_of_splits_is_refused(text):
    with pytest.raises(BadUsageError, match="expected all, interior"):
        parse_splits(text, 21)


def test_a_split_past_the_end_is_refused_with_the_bound():
    with pytest.raises(BadUsageError, match="got 22, expected 0 to 21"):
        parse_splits("14,22", 21)


def test_a_rate_and_a_delay_make_a_link_with_the_rate_both_ways_and_the_delay_one_way():
    name, link = DURESS
    assert name == "5mbit,200ms"
    assert (link.rate_bps, link.return_rate_bps) == (5e6, 5e6)
    assert (link.one_way_delay_s, link.return_delay_s) == (0.2, 0.0)
    assert link.header_bytes == 66


def test_a_preset_keeps_its_rates_and_says_the_headers_the_testbed_counts():
    name, link = parse_asked_link("paper-lan-pi-pi", STORE)
    preset = STORE.link("paper-lan-pi-pi")
    assert (name, link.rate_bps, link.one_way_delay_s) == (preset.name, preset.rate_bps, preset.one_way_delay_s)
    assert link.header_bytes == 66


def test_a_preset_with_headers_of_its_own_keeps_them(tmp_path):
    six = msgspec.structs.replace(DURESS[1], name="six", mss_bytes=1428, header_bytes=86)
    write_profile(tmp_path / "links" / "six.json", six)
    assert parse_asked_link("six", ProfileStore([tmp_path])) == ("six", six)


def test_unshaped_is_no_link_and_an_unknown_one_is_refused_with_the_nearest():
    assert parse_asked_link("unshaped", STORE) == ("unshaped", None)
    with pytest.raises(BadUsageError, match="did you mean 'unshaped'"):
        parse_asked_link("unshapd", STORE)
    with pytest.raises(BadInputError, match="mbps"):
        parse_asked_link("5mbps,1ms", STORE)


def test_with_the_sink_first_trailing_empty_stages_take_no_part():
    assert len(planned_cell(split=39, sink="first").stages) == 1
    assert len(planned_cell(split=39, sink="last").stages) == 2
    assert len(planned_cell(split=38, sink="first").stages) == 2


EVEN = "100mbit,0ms"


def chain(*stages, hosts=None, link=EVEN, **changes):
    """The only cell of an alexnet plan over stages such as `x[0:5]`."""
    options = {"modes": [Mode.named("single")], "source": "stage1", "sink": "last", "repeats": 1, "seed": 0}
    plan = Plan.parse(f"alexnet@{'+'.join(stages)}/b8/w-/tcp/f32")
    (found,) = plan_cells(plans=[plan], links=[parse_asked_links(link, STORE)], hosts=hosts, **{**options, **changes})
    return found


def test_each_of_several_stages_has_a_host_of_its_own_and_one_link_is_that_of_every_hop():
    found = chain("x[0:5]", "x[5:5]", "y[5:21]")
    _, link = parse_asked_link(EVEN, STORE)
    assert found.hosts == ("A", "B", "C")
    assert found.crossings() == (Crossing("A", "B", link), Crossing("B", "C", link))
    assert found.pair_links() == {("A", "B"): link, ("B", "C"): link}


def test_links_one_a_hop_are_taken_in_their_order_and_must_be_as_many():
    found = chain("x[0:5]", "x[5:9]", "y[9:21]", link="5mbit,20ms+unshaped")
    assert [crossing.link and crossing.link.rate_bps for crossing in found.crossings()] == [5e6, None]
    assert found.link_name == "5mbit,20ms+unshaped"
    with pytest.raises(BadUsageError, match="is of 2 hops, expected 1 of plan"):
        chain("x[0:5]", "y[5:21]", link="5mbit,20ms+unshaped")


def test_stages_on_one_host_cross_nothing_between_them():
    found = chain("x[0:5]", "x[5:9]", "y[9:21]", hosts=["A", "A", "B"])
    assert found.links[0] is None
    assert [(crossing.start, crossing.end) for crossing in found.crossings()] == [("A", "B")]
    with pytest.raises(BadUsageError, match="shapes a hop within host A; write unshaped"):
        chain("x[0:5]", "x[5:9]", "y[9:21]", hosts=["A", "A", "B"], link=f"{EVEN}+{EVEN}")


def test_hosts_must_be_one_a_stage_and_of_one_device_each():
    with pytest.raises(BadUsageError, match="got 2 hosts"):
        chain("x[0:5]", "x[5:9]", "y[9:21]", hosts=["A", "B"])
    with pytest.raises(BadUsageError, match="A is to be x and y"):
        chain("x[0:5]", "y[5:21]", hosts=["A", "A"])


def test_a_longer_chain_returns_over_a_link_between_its_ends():
    found = chain("x[0:5]", "x[5:9]", "y[9:21]", sink="first", link="5mbit,20ms+unshaped+8mbit,50ms")
    back = found.crossings()[-1]
    assert (back.start, back.end) == ("C", "A")
    # The link is seen from the first host: what is delayed is the way from A to C.
    assert (back.link.rate_bps, back.link.one_way_delay_s, back.link.return_delay_s) == (8e6, 0.0, 0.05)
    with pytest.raises(BadUsageError, match=r"expected 2 of plan .* and one back between C and A"):
        chain("x[0:5]", "x[5:9]", "y[9:21]", sink="first", link="5mbit,20ms+unshaped")


def test_a_chain_cut_short_by_empty_stages_returns_over_its_last_hop():
    found = chain("x[0:5]", "x[5:21]", "y[21:21]", sink="first")
    assert [(crossing.start, crossing.end) for crossing in found.crossings()] == [("A", "B"), ("B", "A")]
    # Not crossed, and yet shaped: every hop of the plan is probed.
    assert found.pair_links().keys() == {("A", "B"), ("B", "C")}


def test_a_pair_of_hosts_crossed_both_ways_needs_a_link_that_is_the_same_both_ways():
    chain("x[0:5]", "y[5:9]", "x[9:21]", hosts=["A", "B", "A"])
    with pytest.raises(BadUsageError, match="B to A is crossed in both directions"):
        chain("x[0:5]", "y[5:9]", "x[9:21]", hosts=["A", "B", "A"], link="5mbit,200ms")


def test_whatever_tells_two_measurements_apart_tells_their_cells_apart():
    varied = cells(repeats=1, backends=("tcp", "memory"), workers=("overlapped", "serial"), tcp_states=("warm", "cold"))
    assert len({c.cell_id for c in varied}) == len(varied) == 8 * len(cells(repeats=1))
    assert cells(repeats=1)[0].cell_id != cells(repeats=1, hosts=("A", "A"))[0].cell_id


def test_links_that_differ_in_jitter_loss_or_limit_are_other_cells():
    spelled = ["20mbit,20ms", "20mbit,20ms,jitter=2ms", "20mbit,20ms,loss=0.1%", "20mbit,20ms,limit=100kB"]
    named = [parse_asked_link(text, STORE) for text in spelled]
    assert [name for name, _ in named] == spelled
    assert (named[1][1].jitter_s, named[2][1].loss, named[3][1].limit_bytes) == (0.002, 0.001, 100_000)
    assert len({planned_cell(link=link).cell_id for link in named}) == 4
