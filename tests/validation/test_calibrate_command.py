"""`calibrate` as a user has it: a file that predictions take, what it was made on, and what it refuses to mix."""

from __future__ import annotations

import hashlib
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from hwrun.records import LinkMeasured, LinkProbe, append_probe, read_run
from paretosim.calibration import NEUTRAL, Calibration
from paretosim.cli import main as paretosim
from paretosim.mode import Mode
from paretosim.profiles import ProfileStore
from tests.validation.conftest import DEVICES, SLOW_LINK, SyntheticRun
from validation.cli import main
from validation.commands.calibrate import hash_of
from validation.report.fit_text import cautions

MODES = [Mode.named("single"), Mode.named("closed")]


def test_the_file_is_one_that_predictions_take(
    synthetic: Callable[..., SyntheticRun], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = synthetic(modes=MODES, links=[SLOW_LINK, None])
    path = tmp_path / "mine.json"
    assert (
        main(["calibrate", str(run.write()), "-o", str(path), "--profiles", str(run.profiles), "--title", "a desk"])
        == 0
    )
    printed = capsys.readouterr().out
    assert "Predictions of the fitted cells: what the fit was made on, and no test of it" in printed
    assert f"calibration: {path}" in printed
    found = ProfileStore([run.profiles]).calibration(str(path))
    assert (found.name, found.title, found.fitted_on, found.backend) == ("mine", "a desk", ("synthetic",), "tcp")
    assert list(found.hashes) == ["synthetic"]
    assert found.interval_level == 0.9
    assert (
        paretosim(
            ["predict", "--profiles", str(run.profiles), "--model", "toy", "--devices", ",".join(DEVICES),
             "--calibration", str(path)]
        )
        == 0
    )  # fmt: skip


def test_the_hash_is_of_what_was_measured(
    synthetic: Callable[..., SyntheticRun], capsys: pytest.CaptureFixture[str]
) -> None:
    hashes = []
    for name, repeats in (("one", 2), ("again", 2), ("more", 3)):
        run = synthetic(name, modes=MODES[:1], splits=(1, 3), repeats=repeats)
        assert main(["calibrate", str(run.write()), "--profiles", str(run.profiles), "--json"]) == 0
        hashes.append(json.loads(capsys.readouterr().out)["calibration"]["hashes"]["synthetic"])
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_compressed_run_has_the_hash_of_its_lines(synthetic: Callable[..., SyntheticRun]) -> None:
    folder = synthetic(splits=(1,), repeats=1).write()
    before = hash_of(read_run(folder))
    lines = (folder / "cells.jsonl").read_bytes()
    (folder / "cells.jsonl.xz").write_bytes(lzma.compress(lines))
    (folder / "cells.jsonl").unlink()
    assert hash_of(read_run(folder)) == before == hashlib.sha256(lines).hexdigest()[:16]


def test_the_hash_is_of_what_was_probed_too(synthetic: Callable[..., SyntheticRun]) -> None:
    folder = synthetic(splits=(1,), repeats=1).write()
    cells = (folder / "cells.jsonl").read_bytes()
    measured = LinkMeasured(medium="loopback", rtt_samples_s=(1e-3,), goodput_bps=40e6, probe_bytes=1)
    probe = LinkProbe(
        link_name="unshaped", link_asked=None, moment="before", started_utc="", near="A", far="B", measured=measured
    )
    append_probe(folder, probe)
    probes = (folder / "probes.jsonl").read_bytes()
    assert hash_of(read_run(folder)) == hashlib.sha256(cells + probes).hexdigest()[:16]


def test_starts_that_disagree_are_a_caution_and_those_that_agree_are_none() -> None:
    def said(agreeing: int) -> str:
        found = cautions(msgspec.structs.replace(NEUTRAL, name="mine", starts=5, agreeing=agreeing))
        return " ".join(found)

    assert said(1).startswith("only 1 of 5 starts ended at this minimum, so that other values may fit these cells")
    assert (said(2) != "", said(3), said(5)) == (True, "", "")


def test_how_many_starts_agree_is_printed_and_stands_in_the_file(
    synthetic: Callable[..., SyntheticRun], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    run = synthetic(modes=MODES, links=[SLOW_LINK, None])
    options = [str(run.write()), "-o", str(tmp_path / "mine.json"), "--profiles", str(run.profiles)]
    assert main(["calibrate", *options]) == 0
    found = ProfileStore([run.profiles]).calibration(str(tmp_path / "mine.json"))
    printed = capsys.readouterr().out
    assert f"{found.agreeing} of 5 starts agree" in " ".join(printed.split())
    assert "Caution" not in printed
    # As if most starts had ended elsewhere.
    monkeypatch.setattr(Calibration, "is_disputed", True)
    assert main(["calibrate", *options, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cautions"][0].endswith(
        "fit cells of more links, modes or splits as well"
    )
    assert main(["calibrate", *options]) == 0
    assert "\nCaution: only " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"sysctls": {"net.ipv4.tcp_no_metrics_save": "0"}}, "sysctl net.ipv4.tcp_no_metrics_save: 1 and 0"),
        (
            {"testbed": {"kind": "local", "A.direct.congestion_control": "bbr"}},
            "direct.congestion_control: cubic and bbr",
        ),
        ({"workers": ({"name": "one", "threads": 4},)}, "worker threads: 1 and 4"),
        ({"versions": {"python": "3.11", "torch": "9"}}, "version of torch: none and 9"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_unlike_runs_are_refused_with_the_difference(
    synthetic: Callable[..., SyntheticRun],
    changes: dict[str, object],
    difference: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cubic = {"testbed": {"kind": "local", "A.direct.congestion_control": "cubic"}}
    one = synthetic("one", modes=MODES, manifest_changes=cubic)
    two = synthetic("two", modes=MODES, manifest_changes={"run_id": "other", **cubic, **changes})
    code = main(["calibrate", str(one.write()), str(two.write()), "--profiles", str(one.profiles)])
    assert (code, difference in capsys.readouterr().err) == (2, True)


def test_several_backends_are_picked_from(
    synthetic: Callable[..., SyntheticRun], capsys: pytest.CaptureFixture[str]
) -> None:
    run = synthetic(modes=MODES)
    folder = run.write()
    lines = (folder / "cells.jsonl").read_text()
    (folder / "cells.jsonl").write_text(lines + lines.replace("/tcp/f32", "/rpc/f32"))
    assert main(["calibrate", str(folder), "--profiles", str(run.profiles)]) == 2
    assert "got cells of rpc and tcp; what is fitted over both is true of neither: pick one with --backend" in (
        capsys.readouterr().err
    )
    assert main(["calibrate", str(folder), "--profiles", str(run.profiles), "--backend", "tcp", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["calibration"]["backend"] == "tcp"


def test_bad_options_say_what_is_expected(
    synthetic: Callable[..., SyntheticRun], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(synthetic(modes=MODES).write())
    for options, message in (
        (["--level", "90"], "--level: got 90.0, expected a probability between 0 and 1, such as 0.9"),
        (["-o", "mine.toml"], "-o: got mine.toml, expected a file NAME.json"),
        (["-o", "/proc/no/mine.json"], "-o: /proc/no takes no files"),
    ):
        assert main(["calibrate", folder, *options]) == 2
        assert message in capsys.readouterr().err
