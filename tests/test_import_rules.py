"""Who may import whom (DESIGN, "Layout"), read from the source and checked in fresh processes."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import networkx
import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("paretosim", "hwrun", "validation")

# What hwrun may see of paretosim: nouns, units, profile files and dominance, never a prediction. `command_line` is
# the shell that the commands share, and `plain_text` and `held_interrupt` parts of it; `whole_file`, `indented_json`
# and `console` write for all.
OPEN_TO_HWRUN = {
    "block", "device", "timing", "link", "plan", "mode", "units", "profiles", "errors", "command_line", "pareto",
    "held_interrupt", "whole_file", "indented_json", "console",
}  # fmt: skip

# Inside paretosim no import goes to a higher layer, and none in a circle. A module that is not listed is search or
# sweep: it stands between the pipeline and what shows its results.
LAYERS = (
    {"errors"},
    {"units", "plain_text", "held_interrupt", "whole_file", "indented_json", "console"},
    {"block", "device", "timing", "link", "plan", "mode", "calibration"},
    {"profiles", "pareto", "columns", "command_line", "memory", "chain"},
    {"transfer_time"},
    {"pipeline"},
    set(),  # search and sweeps
    {"prediction"},
    {"resolution"},
    {"verdict", "scatter"},
    {"tables", "figures", "prediction_json", "result_json", "notebook"},
    {"commands"},
    {"cli"},
)
UNLISTED = 6
# Search may be asked by, and may ask, what predicts two devices: only the order among themselves is free.
PREDICTING = {6, 7, 8}
SHOWING = 9


def _modules() -> dict[str, Path]:
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = _modules()


def _imported(module: str, path: Path, *, type_checking: bool = True) -> Iterable[str]:
    """Full names of what a module imports, anywhere in it; `from package import module` counts as the module."""
    tree = ast.parse(path.read_text())
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING") and not type_checking:
            skipped |= {id(child) for statement in node.body for child in ast.walk(statement)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import hides where it leads"
            assert node.module is not None
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else node.module
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) in ("import_module", "importlib.import_module", "__import__")
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            yield str(node.args[0].value)


def _graph(*, type_checking: bool = True) -> networkx.DiGraph[str]:
    graph: networkx.DiGraph[str] = networkx.DiGraph()
    graph.add_nodes_from(MODULES)
    for module, path in MODULES.items():
        graph.add_edges_from((module, name) for name in _imported(module, path, type_checking=type_checking))
    return graph


GRAPH = _graph()


def _edges(package: str) -> list[tuple[str, str]]:
    return [(a, b) for a, b in GRAPH.edges if a.split(".")[0] == package]


def test_the_graph_is_read_from_something() -> None:
    assert GRAPH.has_edge("paretosim.prediction", "paretosim.pipeline")
    assert GRAPH.has_edge("paretosim.commands.predict", "paretosim.show.figures")  # inside a function
    assert GRAPH.has_edge("paretosim.prediction", "numpy")


def test_paretosim_imports_neither_sibling_nor_what_touches_the_world() -> None:
    forbidden = {"hwrun", "validation", "torch", "torchvision", "psutil", "socket", "subprocess"}
    assert [(a, b) for a, b in _edges("paretosim") if b.split(".")[0] in forbidden] == []


def test_matplotlib_is_for_figures_alone() -> None:
    users = {a for a, b in _edges("paretosim") if b.split(".")[0] in ("matplotlib", "scipy")}
    assert {user for user in users if not user.endswith("figures")} == set()


def test_pandas_is_imported_where_a_data_frame_is_made_and_nowhere_else() -> None:
    graph = _graph(type_checking=False)
    assert {a for a, b in graph.edges if a.startswith("paretosim") and b == "pandas"} == {"paretosim.tabular"}


def test_hwrun_sees_paretosims_nouns_and_never_a_prediction() -> None:
    seen = {b.split(".")[1] if "." in b else b for a, b in _edges("hwrun") if b.split(".")[0] == "paretosim"}
    assert seen - OPEN_TO_HWRUN - {"paretosim"} == set()
    # Nor by way of those nouns. (The package itself names predictions, for type checkers; it imports none.)
    graph = _graph(type_checking=False)
    reached = set().union(*(networkx.descendants(graph, f"paretosim.{name}") for name in OPEN_TO_HWRUN))
    predicting = ("setting", "prediction", "pipeline", "transfer_time", "verdict")
    assert reached & {f"paretosim.{name}" for name in predicting} == set()
    assert [(a, b) for a, b in _edges("hwrun") if b.split(".")[0] == "validation"] == []


def test_hwrun_takes_nothing_from_the_package_itself_but_its_version() -> None:
    taken = {
        alias.name
        for module, path in MODULES.items()
        if module.split(".")[0] == "hwrun"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "paretosim"
        for alias in node.names
        if f"paretosim.{alias.name}" not in MODULES
    }
    assert taken <= {"__version__"}
    assert "import paretosim\n" not in "".join(
        path.read_text() for module, path in MODULES.items() if module.split(".")[0] == "hwrun"
    )


def test_validation_reads_hwruns_records_and_nothing_else_of_it() -> None:
    allowed = {"hwrun.records", "hwrun.errors"}  # the reader's errors are part of the reader
    assert [(a, b) for a, b in _edges("validation") if b.split(".")[0] == "hwrun" and b not in allowed] == []
    reached = networkx.descendants(GRAPH, "hwrun.records")
    assert {name for name in reached if name.startswith("hwrun")} == {
        "hwrun.errors",
        *(f"hwrun.records.{part}" for part in ("cells", "links", "runs", "workers")),
    }


def test_records_and_validation_know_nothing_of_torch() -> None:
    for module in ["hwrun.records", *(name for name in MODULES if name.startswith("validation"))]:
        reached = {name.split(".")[0] for name in networkx.descendants(GRAPH, module)}
        assert not reached & {"torch", "torchvision", "fvcore", "psutil", "pyroute2", "socket"}, module


def test_no_imports_go_in_circles_not_even_for_types() -> None:
    circles = networkx.strongly_connected_components(GRAPH.subgraph(MODULES))
    assert [sorted(group) for group in circles if len(group) > 1] == []


def _named(module: str) -> str:
    """The name that a module's layer goes by: its own, or `commands` for all of those."""
    parts = module.split(".")
    return parts[1] if parts[1] == "commands" else parts[-1]


def _layer(module: str) -> int:
    """The layer that lists the module; what shows another search's results is named after what shows predictions."""
    name = _named(module)
    kin = name.rsplit("_", 1)[-1]
    for level, names in enumerate(LAYERS):
        if name in names or any(kin == listed.rsplit("_", 1)[-1] for listed in names if level >= SHOWING):
            return level
    return SHOWING + 1 if kin == "text" else UNLISTED


def test_arrows_inside_paretosim_point_down() -> None:
    def allowed(a: str, b: str) -> bool:
        upper, lower = _layer(a), _layer(b)
        return upper >= lower or {upper, lower} <= PREDICTING

    inner = [(a, b) for a, b in _edges("paretosim") if b.startswith("paretosim.") and "." in a]
    assert len(inner) > 50
    assert [(a, b) for a, b in inner if not allowed(a, b)] == []


def test_every_listed_module_is_there() -> None:
    listed = set().union(*LAYERS)
    there = {_named(name) for name in MODULES if name.startswith("paretosim.")}
    assert listed - there == set()


def test_one_module_defines_a_dominance_test() -> None:
    named = re.compile(r"dominat|pareto_(front|mask|set)|is_efficient|skyline", re.IGNORECASE)
    defining = {
        module
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and named.search(node.name)
    }
    assert defining == {"paretosim.pareto"}


def _comparisons_both_ways(path: Path) -> bool:
    """Whether a function compares all columns with <= and any with <: a dominance test by any name."""
    for function in ast.walk(ast.parse(path.read_text())):
        if not isinstance(function, ast.FunctionDef):
            continue
        called = {
            ast.unparse(node.func).rsplit(".", 1)[-1] for node in ast.walk(function) if isinstance(node, ast.Call)
        }
        operators = {type(op) for node in ast.walk(function) if isinstance(node, ast.Compare) for op in node.ops}
        weak, strict = operators & {ast.LtE, ast.GtE}, operators & {ast.Lt, ast.Gt}
        if {"all", "any"} <= called and weak and strict:
            return True
    return False


def test_no_module_has_a_dominance_test_under_another_name() -> None:
    assert [module for module, path in MODULES.items() if _comparisons_both_ways(path)] == ["paretosim.pareto"]


# In fresh processes, since this one has imported everything already.

BLOCKER = """
import importlib, sys
class Blocker:
    def __init__(self, *names): self.names = names
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.names:
            raise ImportError(f"{name} is blocked")
        return None
"""


def _python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", BLOCKER + code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("options", [[], ["--json"], ["--csv"]], ids=["table", "json", "csv"])
def test_predict_starts_without_anything_heavy(options: list[str]) -> None:
    line = ["predict", "--model", "vgg16", "--bw", "5mbit", "--delay", "200ms", *options]
    loaded = _python(f"""
from paretosim.cli import main
assert main({line!r}) == 0
print(); print("LOADED", *sorted({{name.split(".")[0] for name in sys.modules}}))
""").splitlines()[-1].split()  # fmt: skip
    assert "numpy" in loaded
    assert (
        set(loaded) & {"torch", "scipy", "networkx", "matplotlib", "pandas", "psutil", "hwrun", "validation"} == set()
    )


def test_the_base_install_is_enough_to_predict_and_list() -> None:
    out = _python("""
sys.meta_path.insert(0, Blocker("torch", "torchvision", "fvcore", "psutil", "safetensors", "pyroute2", "matplotlib",
                                "scipy", "networkx", "pandas", "hypothesis", "pytest", "hwrun", "validation"))
from paretosim.cli import main
assert main(["predict", "--model", "alexnet"]) == 0
assert main(["list"]) == 0
assert main(["predict", "--model", "alexnet", "--plot", "a.svg"]) == 2
""")
    assert "Verdict: " in out


def test_records_and_all_of_validation_import_without_torch() -> None:
    names = ["hwrun.records", *(name for name in MODULES if name.startswith("validation") and "__main__" not in name)]
    _python(f"""
sys.meta_path.insert(0, Blocker("torch", "torchvision", "fvcore", "psutil", "pyroute2", "safetensors"))
for name in {names!r}:
    importlib.import_module(name)
""")
