"""Cells of sweeps as tests plan them: one split of a model, over a slow link unless told."""

from hwrun.planned_cell import PlannedCell
from hwrun.sweeps.cells import parse_asked_link
from paretosim.mode import Mode
from paretosim.plan import Plan
from paretosim.profiles import ProfileStore

STORE = ProfileStore()
DURESS = parse_asked_link("5mbit,200ms", STORE)


def planned_cell(model="vgg16", split=1, link=DURESS, mode=None, source="stage1", sink="last"):
    """The cell; `link` is a name and what it asks for, `mode` single unless told."""
    blocks = len(STORE.model(model).blocks)
    return PlannedCell(
        plan=Plan.two_devices(model, blocks, split, ("a", "b")),
        mode=mode or Mode.named("single"),
        link_name=link[0],
        links=(link[1],),
        hosts=("A", "B"),
        source=source,
        sink=sink,
        repeat=0,
    )
