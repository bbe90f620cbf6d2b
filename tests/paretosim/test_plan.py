"""Plans: values that print, parse and round-trip."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paretosim.errors import BadInputError
from paretosim.plan import Plan, Stage

NAMES = st.text(alphabet="abcdefgh0123456789_-.", min_size=1, max_size=12)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    cuts = sorted(draw(st.lists(st.integers(0, 60), min_size=1, max_size=4)))
    stages = tuple(Stage(draw(NAMES), first, last) for first, last in pairwise([0, *cuts]))
    return Plan(
        model=draw(NAMES), stages=stages, batch=draw(st.integers(1, 64)),
        window=draw(st.none() | st.integers(1, 16)), backend=draw(st.sampled_from(["tcp", "rpc"])),
    )  # fmt: skip


@settings(deadline=None)
@given(plans())
def test_a_printed_plan_reads_back_as_itself(plan: Plan) -> None:
    assert Plan.parse(str(plan)) == plan


def test_the_documented_spelling() -> None:
    text = "vgg16@rpi4b[0:14]+rtx4090[14:39]/b8/w1/tcp/f32"
    plan = Plan.parse(text)
    assert (plan.split, plan.cuts, plan.window, plan.wire_dtype) == (14, (14,), 1, "f32")
    assert str(plan) == text
    without = Plan.two_devices("vgg16", 39, 14, ("rpi4b", "rtx4090"))
    assert str(without) == "vgg16@rpi4b[0:14]+rtx4090[14:39]/b8/w-/tcp/f32"


def test_an_empty_stage_at_either_end_is_a_plan() -> None:
    assert str(Plan.two_devices("m", 3, 0, ("a", "b"))).startswith("m@a[0:0]+b[0:3]")
    assert str(Plan.two_devices("m", 3, 3, ("a", "b"))).startswith("m@a[0:3]+b[3:3]")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected e.g. vgg16@"),
        ("vgg16", "expected e.g. vgg16@"),
        ("m@a[0:2]b[2:3]/b8/w1/tcp/f32", "expected e.g."),
        ("m@a[0:2]+b[2:]/b8/w1/tcp/f32", "expected e.g."),
        ("m@a[0:2]+b[2:3]/b8/w1/tcp/f32 ", "expected e.g."),
        ("m@a[0:2]+b[2:3]/b0/w1/tcp/f32", "got batch 0"),
        ("m@a[0:2]+b[2:3]/b8/w0/tcp/f32", "got window 0"),
        ("m@a[1:2]+b[2:3]/b8/w-/tcp/f32", "first stage starts at block 1, expected 0"),
        ("m@a[0:2]+b[1:3]/b8/w-/tcp/f32", "expected a stage from 2"),
        ("m@a[0:2]+b[2:1]/b8/w-/tcp/f32", "expected 0 ≤ first ≤ last"),
    ],
)
def test_what_is_no_plan_is_refused(text: str, said: str) -> None:
    with pytest.raises(BadInputError, match=said):
        Plan.parse(text)


def test_only_two_stages_have_a_split() -> None:
    with pytest.raises(BadInputError, match="has 1 stages, expected 2"):
        _ = Plan.parse("m@a[0:2]/b8/w-/tcp/f32").split
    with pytest.raises(BadInputError, match="got no stages"):
        Plan(model="m", stages=())
