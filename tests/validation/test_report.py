"""`python -m validation report`: what it prints, writes and refuses."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from hwrun.records import append_cell, read_run
from paretosim.calibration import Calibration, DeviceTerms
from paretosim.mode import Mode
from paretosim.profiles import identity, write_profile
from validation.cli import main

HOSTILE = "<script>alert('x')</script>&\"$\\alpha$`|[a](b)"


def report(run: object, *options: str) -> int:
    folder = run.write()
    return main(["report", str(folder), "--profiles", str(run.profiles), *options])


def off(latency: float) -> Callable:
    return lambda split, repeat: SimpleNamespace(latency=latency, throughput=1.0, transfer=1.0)


def test_the_verdict_comes_first_and_the_page_is_named(synthetic: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    run = synthetic(links=(synthetic().links[0], None), factors=off(1.25))
    assert report(run) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("synthetic: Predictions are off by 20.0 % in latency (measured to within 0.0 %)")
    assert "on average of 12 cells (24 records) predicted without calibration" in lines[0]
    assert "Fronts agree in 2 of 2" in lines[0]
    assert "Choosing by them would have lost nothing" in lines[0]
    assert "Of pairs of splits that the measurements tell apart, none of 60 is in the wrong order" in lines[0]
    assert "emulated at 2 times their speed" in lines[1]
    assert "slow reconstructed" in lines[1]
    assert lines[-1] == f"report: {run.folder / 'report' / 'index.html'}"
    assert {path.name for path in (run.folder / "report").iterdir()} == {"index.html", "report.md", "report.json"}


def test_json_has_the_numbers_of_every_cell(synthetic: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    run = synthetic(factors=off(0.8), splits=(1, 3))
    assert report(run, "--json") == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert "index.html" in captured.err
    assert json.loads((run.folder / "report" / "report.json").read_text()) == found
    [condition] = found["conditions"]
    assert [cell["cuts"] for cell in condition["cells"]] == [[1], [3]]
    assert condition["cells"][0]["latency_s"]["error"] == pytest.approx(0.25)
    assert found["bases"][0]["scores"]["latency"]["mape"] == pytest.approx(0.25)
    assert condition["condition"]["origin"] == "emulated ×2"
    assert [timing["kind"] for timing in condition["timings"]] == ["reconstructed", "measured"]


def test_one_repeat_is_marked_in_the_table(synthetic: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    report(synthetic(repeats=1))
    assert "† one repeat: the spread of its batches, not between repeats." in " ".join(capsys.readouterr().out.split())


def test_skipped_cells_are_printed_with_reason_and_remedy(
    synthetic: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    run = synthetic()
    cell = run.cell(run.modes[0], run.links[0], 1, 9)
    run.write()
    skipped = msgspec.structs.replace(cell, status="skipped", subruns=(), reason="no namespaces", remedy="run as root")
    append_cell(run.folder, skipped)
    assert main(["report", str(run.folder), "--profiles", str(run.profiles)]) == 0
    out = capsys.readouterr().out
    assert "Not in these numbers: 1 skipped." in out
    assert "no namespaces" in out
    assert "run as root" in out


def test_a_run_without_any_comparable_cell_fails_but_still_says_why(
    synthetic: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    run = synthetic(cell_changes={"status": "skipped", "subruns": (), "reason": "no namespaces", "remedy": "root"})
    assert report(run) == 1
    assert "Nothing was compared: no cell that is recorded could be joined" in capsys.readouterr().out
    assert "no namespaces" in (run.folder / "report" / "index.html").read_text()


def test_the_provenance_names_the_profiles_that_a_prediction_was_made_from_whether_the_run_rests_on_them_or_not(
    synthetic: Callable,
) -> None:
    run = synthetic(emulated=False, speed=1.0, manifest_changes={"timings": {}})
    assert report(run) == 0
    page = (run.folder / "report" / "index.html").read_text()
    digest = identity(run.store.timing("slow", "toy"))
    assert f"{digest} (found now: stages computed, the run rests on none)" in page
    emulated = synthetic("emulated")
    assert report(emulated) == 0
    page = (emulated.folder / "report" / "index.html").read_text()
    assert digest in page
    assert "found now" not in page


def test_unlike_conditions_are_bad_input_and_write_nothing(
    synthetic: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    run = synthetic(manifest_changes={"timings": {"slow/toy": "0123", "fast/toy": "4567"}})
    assert report(run) == 2
    assert "the run was made with 0123" in capsys.readouterr().err
    assert not (run.folder / "report").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "holds no manifest.json"),
        (["one", "two"], "-o: not given"),
        (["one", "--tolerance", "-1"], "--tolerance: got -1.0"),
        (["one", "--profiles", "nowhere"], "profile directory: nowhere does not exist"),
    ],
)
def test_bad_usage_is_refused(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_manifest_of_another_schema_is_refused(synthetic: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(synthetic(manifest_changes={"schema_version": 99})) == 2
    assert "schema_version: got 99, expected 1" in capsys.readouterr().err


def test_an_output_that_takes_no_files_is_refused_before_anything_is_computed(
    synthetic: Callable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").write_text("a file")
    for folder in (tmp_path / "taken", tmp_path / "taken" / "report"):
        assert report(synthetic(), "-o", str(folder)) == 2
        captured = capsys.readouterr()
        assert f"-o: {folder} takes no files" in captured.err
        assert captured.out == ""


def test_a_report_that_cannot_be_written_in_the_end_is_shown_and_fails(
    synthetic: Callable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "index.html").mkdir()
    assert report(synthetic(), "-o", str(tmp_path)) == 2
    captured = capsys.readouterr()
    assert f"-o: {tmp_path} cannot be written: Is a directory" in captured.err
    assert "Predictions are off by" in captured.out


def test_a_report_replaces_an_earlier_one_whole(synthetic: Callable, tmp_path: Path) -> None:
    run = synthetic(splits=(1, 3))
    assert report(run) == 0
    names = sorted(path.name for path in (run.folder / "report").iterdir())
    for name in names:
        (tmp_path / name).hardlink_to(run.folder / "report" / name)
    earlier = {name: (tmp_path / name).read_bytes() for name in names}
    assert main(["report", str(run.folder), "--profiles", str(run.profiles), "--tolerance", "0.5"]) == 0
    assert {name: (tmp_path / name).read_bytes() for name in names} == earlier
    assert sorted(path.name for path in (run.folder / "report").iterdir()) == names
    assert (run.folder / "report" / "report.json").read_bytes() != earlier["report.json"]


def test_cells_that_cannot_be_read_are_named(synthetic: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    folder = synthetic().write()
    (folder / "cells.jsonl").unlink()
    (folder / "cells.jsonl").mkdir()
    assert main(["report", str(folder)]) == 2
    assert "cells.jsonl: cannot be read: Is a directory; expected a file of lines" in capsys.readouterr().err


def test_brackets_are_explained_where_there_are_any(synthetic: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    def noisy(split: int, repeat: int) -> SimpleNamespace:
        return SimpleNamespace(latency=1 + 0.3 * ((split + repeat) % 2), throughput=1.0, transfer=1.0)

    for factors, bracketed in ((off(1.0), False), (noisy, True)):
        assert report(synthetic(str(bracketed), factors=factors)) == 0
        assert ("In brackets: intervals cover 95 %" in " ".join(capsys.readouterr().out.split())) is bracketed


def test_how_to_recompute_names_the_calibration(synthetic: Callable, tmp_path: Path) -> None:
    write_profile(tmp_path / "lab.json", Calibration(schema_version=2, name="lab", backend="tcp"))
    for options, said in (
        ((), "report RUN… --tol"),
        (("--calibration", str(tmp_path / "lab.json")), "--calibration FILE"),
    ):
        run = synthetic(str(len(options)), splits=(1, 3))
        assert report(run, *options) == 0
        assert said in (run.folder / "report" / "report.md").read_text()


def test_the_page_is_written_although_the_reader_of_stdout_leaves(synthetic: Callable) -> None:
    run = synthetic(splits=(1, 3))
    command = [sys.executable, "-m", "validation", "report", str(run.write()), "--profiles", str(run.profiles)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(timeout=60) == 0
    assert (run.folder / "report" / "index.html").stat().st_size > 0


def test_what_could_not_be_written_fails_although_the_reader_of_stdout_leaves(
    synthetic: Callable, tmp_path: Path
) -> None:
    run = synthetic(splits=(1, 3))
    (tmp_path / "taken" / "index.html").mkdir(parents=True)
    command = [sys.executable, "-m", "validation", "report", str(run.write()), "--profiles", str(run.profiles)]
    command += ["-o", str(tmp_path / "taken")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert "cannot be written" in process.stderr.read()
        assert process.wait(timeout=60) == 2


def test_several_runs_are_one_report(synthetic: Callable, tmp_path: Path) -> None:
    one = synthetic("one", manifest_changes={"run_id": "run-one"}, factors=off(1.0), repeats=1)
    two = synthetic("two", manifest_changes={"run_id": "run-two"}, factors=off(1.5), repeats=1)
    folders = [str(run.write()) for run in (one, two)]
    output = tmp_path / "both"
    assert main(["report", *folders, "--profiles", str(one.profiles), "-o", str(output)]) == 0
    found = json.loads((output / "report.json").read_text())
    assert [run["manifest"]["run_id"] for run in found["runs"]] == ["run-one", "run-two"]
    assert found["bootstrap"]["over"] == "runs"
    latency = found["bases"][0]["scores"]["latency"]
    # Measured 1 and 1.5, so 1.25 in the middle; a resample of one run alone has no error or −1/3, on average 0.183.
    assert latency["mape"] == pytest.approx(0.2)
    low, high = latency["intervals"]["mape"]
    assert low == 0
    assert high == pytest.approx(0.2 + 2**0.5 * (1 / 3 - 0.183), abs=0.02)
    assert "whole runs, of which there are 2 (few: such intervals are too short)" in (output / "report.md").read_text()


def test_without_resamples_scores_are_the_same_and_have_no_intervals(synthetic: Callable, tmp_path: Path) -> None:
    run = synthetic(factors=off(1.1), repeats=3)
    run.write()
    found = []
    for resamples in ("0", "20"):
        output = tmp_path / resamples
        command = ["report", str(run.folder), "--profiles", str(run.profiles), "-o", str(output)]
        assert main([*command, "--resamples", resamples]) == 0
        found.append(json.loads((output / "report.json").read_text()))
    without, drawn = (report["bases"][0]["scores"]["latency"] for report in found)
    assert drawn.pop("intervals")
    assert without.pop("intervals") == {}
    assert without == drawn
    assert all(condition["front"]["membership"] == {} for condition in found[0]["conditions"])
    assert "No intervals, as no resamples were asked for" in (tmp_path / "0" / "report.md").read_text()


def test_unlike_runs_are_refused(synthetic: Callable, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = synthetic("one", manifest_changes={"run_id": "run-one"})
    two = synthetic("two", manifest_changes={"run_id": "run-two"}, speed=4.0)
    folders = [str(run.write()) for run in (one, two)]
    assert main(["report", *folders, "--profiles", str(one.profiles), "-o", str(tmp_path / "both")]) == 2
    assert "runs run-one and run-two were not made under like conditions" in capsys.readouterr().err
    assert not (tmp_path / "both").exists()


def test_a_calibration_is_used_named_and_marked(
    synthetic: Callable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calibration = Calibration(
        schema_version=2, name="lab", backend="tcp", devices={"slow": DeviceTerms(gamma=2.0)}, fitted_on=("run-zero",)
    )
    write_profile(tmp_path / "lab.json", calibration)
    run = synthetic(splits=(1, 3))
    assert report(run, "--calibration", str(tmp_path / "lab.json"), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [basis["basis"] for basis in found["bases"]] == ["held out"]
    assert found["calibrations"]["lab"]["fitted_on"] == ["run-zero"]
    scale = next(entry for entry in found["ablation"] if entry["term"] == "scale")
    assert (scale["cells"], scale["without_term"]["latency"]["mape"]) == (2, pytest.approx(0, abs=1e-9))
    assert scale["with_term"]["latency"]["mape"] > 0.01
    assert "predicted by a calibration that never saw them" in found["headline"]


def test_cells_that_a_calibration_was_fitted_on_are_scored_apart_from_those_it_never_saw(
    synthetic: Callable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = synthetic("one", manifest_changes={"run_id": "seen"}, factors=off(1.0), splits=(1, 2))
    two = synthetic("two", manifest_changes={"run_id": "unseen"}, factors=off(1.25), splits=(3, 4))
    calibration = Calibration(schema_version=2, name="lab", backend="tcp", fitted_on=("seen",))
    write_profile(tmp_path / "lab.json", calibration)
    folders = [str(run.write()) for run in (one, two)]
    options = ["--profiles", str(one.profiles), "--calibration", str(tmp_path / "lab.json"), "-o", str(tmp_path / "r")]
    assert main(["report", *folders, *options, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(basis["basis"], basis["cells"]) for basis in found["bases"]] == [("held out", 2), ("fitted", 2)]
    errors = [basis["scores"]["latency"]["mape"] for basis in found["bases"]]
    assert errors == [pytest.approx(0.2), pytest.approx(0, abs=1e-9)]
    assert found["headline"].endswith("2 cells (4 records) predicted by a calibration that never saw them.")
    assert "Apart from these they are off by 0.0 % in latency" in found["verdict"]
    assert "2 cells (4 records) that the calibration was fitted on, which makes them no test of it." in found["verdict"]
    assert {cell["label"]: cell["basis"] for cell in found["conditions"][0]["cells"]} == {
        "1": "fitted", "2": "fitted", "3": "held out", "4": "held out",
    }  # fmt: skip
    page = (tmp_path / "r" / "index.html").read_text()
    assert "fitted on (faint)" in page


def test_two_calibrations_of_one_backend_are_refused(
    synthetic: Callable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("lab", "other"):
        write_profile(tmp_path / f"{name}.json", Calibration(schema_version=2, name=name, backend="tcp"))
    options = [option for name in ("lab", "other") for option in ("--calibration", str(tmp_path / f"{name}.json"))]
    assert report(synthetic(), *options) == 2
    assert "got lab and other, both of backend tcp" in capsys.readouterr().err


def test_every_rendering_has_the_same_scores(synthetic: Callable) -> None:
    run = synthetic(factors=lambda split, repeat: off(1.0 + 0.07 * split + 0.01 * repeat)(split, repeat), repeats=3)
    report(run)
    folder = run.folder / "report"
    latency = json.loads((folder / "report.json").read_text())["bases"][0]["scores"]["latency"]
    low, high = latency["intervals"]["mape"]
    shown = [f"{latency['mape']:.2%}".replace("%", " %"), f"{low * 100:.2f}–{high * 100:.2f} %"]
    assert low < high
    for name in ("index.html", "report.md"):
        text = (folder / name).read_text()
        assert all(value in text for value in shown), name


class Page(HTMLParser):
    """Checks that elements nest, and collects identifiers, references and scripts."""

    VOID = frozenset({"meta", "br", "use", "path"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.identifiers: list[str] = []
        self.tags: list[str] = []
        self.text: list[str] = []
        self.chart_count = 0
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.identifiers += [value for name, value in attrs if name == "id" and value]
        self.chart_count += ("class", "chart") in attrs
        for name, value in attrs:
            assert name != "src"
            assert name not in ("href", "xlink:href") or (value or "").startswith("#"), value
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_is_whole_self_contained_and_has_a_figure_a_front(synthetic: Callable) -> None:
    run = synthetic(modes=(Mode(name="paced"), Mode(name="single")), links=(synthetic().links[0], None))
    report(run)
    page = Page((run.folder / "report" / "index.html").read_text())
    # Fronts, parity of three quantities, their residuals against four variables (transfers are those over the one
    # shaped link, so that rate and delay explain nothing of them), terms and simpler models.
    # And the one phase beside them that lasts any time here: the dispatch.
    assert page.chart_count == 4 + 3 + (2 * 4 + 2) + 1 + 3 + 1
    assert len(page.identifiers) == len(set(page.identifiers))
    assert "script" not in page.tags
    text = " ".join(page.text)
    for words in ("emulated ×2 stages", "slow: reconstructed", "link as probed", "Known limits", "How to recompute"):
        assert words in text


def test_parity_has_bands_of_five_and_ten_percent_about_its_diagonal(synthetic: Callable) -> None:
    run = synthetic(factors=off(1.1))
    report(run)
    page = (run.folder / "report" / "index.html").read_text()
    charts = re.findall(r'<svg class="chart"[^>]*aria-label="Predicted against measured [^"]*".*?</svg>', page, re.S)
    assert len(charts) == 3
    for chart in charts:
        bands = [
            [tuple(map(float, corner.split(","))) for corner in corners.split()]
            for style in ("band wide", "band")
            for corners in re.findall(f'<polygon class="{style}" points="([^"]*)"', chart)
        ]
        assert len(bands) == 2
        # Corners go along the lower edge and back along the upper one, so that the first faces the last; on a
        # logarithmic scale, ±10 % is as wide as ln(1.1 / 0.9) over its length, and anywhere twice what ±5 % is.
        wide, narrow = (abs(band[0][1] - band[-1][1]) for band in bands)
        assert wide == pytest.approx(2 * narrow, rel=0.1)


def test_where_a_report_comes_from_has_sysctls_and_hashes_of_what_was_fitted(
    synthetic: Callable, tmp_path: Path
) -> None:
    calibration = Calibration(
        schema_version=2,
        name="lab",
        backend="tcp",
        fitted_on=("monday", "friday"),
        hashes={"monday": "0a1b", "friday": "2c3d"},
    )
    write_profile(tmp_path / "lab.json", calibration)
    run = synthetic(manifest_changes={"sysctls": {"net.ipv4.tcp_rmem": "4096 131072 6291456"}})
    assert report(run, "--calibration", str(tmp_path / "lab.json")) == 0
    page = " ".join(Page((run.folder / "report" / "index.html").read_text()).text)
    for said in (page, (run.folder / "report" / "report.md").read_text().replace("\\", "")):
        assert "monday 0a1b, friday 2c3d" in said
        assert "sysctl: net.ipv4.tcp_rmem" in said
        assert "4096 131072 6291456" in said


def test_strings_of_a_run_are_never_markup(synthetic: Callable) -> None:
    link = msgspec.structs.replace(synthetic().links[0], name=HOSTILE)
    run = synthetic(
        links=(link,),
        manifest_changes={"run_id": HOSTILE, "host": {HOSTILE: HOSTILE}, "qdisc": HOSTILE, "command_line": (HOSTILE,)},
    )
    run.write()
    cell = run.cell(run.modes[0], link, 1, 9)
    failed = msgspec.structs.replace(cell, status="failed", subruns=(), reason=HOSTILE, remedy=HOSTILE)
    append_cell(run.folder, failed)
    assert main(["report", str(run.folder), "--profiles", str(run.profiles)]) == 0
    page = Page((run.folder / "report" / "index.html").read_text())
    assert "script" not in page.tags
    assert HOSTILE in "".join(page.text)
    assert "<script" not in (run.folder / "report" / "report.md").read_text()


def test_equal_input_gives_equal_files(synthetic: Callable, tmp_path: Path) -> None:
    run = synthetic(factors=off(1.1))
    report(run, "-o", str(tmp_path / "first"))
    main(["report", str(run.folder), "--profiles", str(run.profiles), "-o", str(tmp_path / "second")])
    for name in ("index.html", "report.md", "report.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_the_dropped_line_of_an_interrupted_sweep_is_shown(synthetic: Callable) -> None:
    run = synthetic()
    path = run.write() / "cells.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    assert main(["report", str(run.folder), "--profiles", str(run.profiles)]) == 0
    assert "| half-written lines dropped | 1 |" in (run.folder / "report" / "report.md").read_text()
    assert read_run(run.folder).dropped_lines == 1


BLOCKED = """
import sys
REFUSED = ("torch", "torchvision", "psutil", "safetensors", "pyroute2", "fvcore", "networkx", "scipy", "matplotlib")
class Refuse:
    def find_spec(self, name, path=None, target=None):
        root = name.split(".")[0]
        pure = name in ("hwrun", "hwrun.errors") or name.split(".")[1:2] == ["records"]
        if root in (*REFUSED, MORE) or (root == "hwrun" and not pure):
            raise ModuleNotFoundError(f"{name} is not to be imported by a report", name=name)
        return None
sys.meta_path.insert(0, Refuse())
from validation.cli import main
sys.exit(main(sys.argv[1:]))
"""


def report_without(run: object, more: str) -> subprocess.CompletedProcess[str]:
    code = BLOCKED.replace("MORE", repr(more))
    command = [sys.executable, "-c", code, "report", str(run.write()), "--profiles", str(run.profiles)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_a_report_needs_neither_torch_nor_matplotlib_nor_the_rest_of_hwrun(synthetic: Callable) -> None:
    run = synthetic(splits=(1, 3))
    done = report_without(run, "torch")
    assert done.returncode == 0, done.stderr
    assert (run.folder / "report" / "index.html").stat().st_size > 0


def test_without_moocore_the_extra_is_named(synthetic: Callable) -> None:
    run = synthetic(splits=(1, 3))
    done = report_without(run, "moocore")
    assert done.returncode == 2
    assert "moocore is not installed; pip install 'paretosim[report]'" in done.stderr
    assert not (run.folder / "report").exists()
