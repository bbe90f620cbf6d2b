"""Options of `hwrun sweep`: what they mean, and what is refused before anything starts."""

import argparse
import json
import re
import shlex

import pytest

from hwrun.cli import main as run_command
from hwrun.commands.sweep import QUICK, configure, meant, parsed, spelled
from hwrun.commands.sweep_conditions import sweep_plan
from hwrun.errors import BadUsageError
from hwrun.records import append_cell, write_manifest
from hwrun.sweeps.manifest import manifest_of
from hwrun.sweeps.plan import recorded
from paretosim.cli import main
from paretosim.errors import BadInputError, ProfileError, UnknownNameError
from paretosim.mode import Mode
from paretosim.plan import Plan


def understood(*options):
    """What `hwrun sweep` takes these options to mean, and what it says of that."""
    parser = argparse.ArgumentParser()
    configure(parser)
    return meant(parser.parse_args(options))


def plan(*options):
    return sweep_plan(understood(*options)[0])


def test_the_options_a_run_records_give_the_same_cells_again():
    options = (
        "--model", "alexnet", "--model", "mobilenet_v2", "--splits", "3-5",
        "--link", "5mbit,200ms", "--link", "unshaped",
        "--mode", "closed", "--mode", "burst", "--window", "3", "--repeats", "2", "--seed", "4",
        "--max-cell-time", "2s",
        "--sink", "first", "--json", "-o", "somewhere",
    )  # fmt: skip
    again = parsed(spelled(parsed(options)))
    assert sweep_plan(again) == plan(*options)
    assert again.output is None
    assert not again.json


@pytest.mark.parametrize("options", [(), ("--local",), ("--max-time", "1h", "-o", "somewhere")])
def test_a_sweep_without_a_word_on_what_to_measure_is_small_and_says_so(options):
    arguments, said = understood(*options)
    assert said == f"hwrun sweep: no options, so: hwrun sweep {QUICK}"
    assert sweep_plan(arguments).cells == sweep_plan(parsed(shlex.split(QUICK))).cells
    assert len(sweep_plan(arguments).cells) == 8
    assert str(arguments.output) == ("somewhere" if "-o" in options else "None")


@pytest.mark.parametrize("options", [("--repeats", "5"), ("--batch", "8", "--repeats", "5"), ("--seed", "0")])
def test_what_is_typed_is_meant_though_it_would_have_been_so_anyway(options):
    arguments, said = understood(*options)
    assert (said, arguments.repeats, arguments.emulate) == ("", 5, None)
    # And whoever types what the run says of itself gets it again.
    again, said = understood(*spelled(arguments))
    assert said == ""
    assert sweep_plan(again) == sweep_plan(arguments)


def begin_run(folder, *options):
    """A folder as a sweep with these options has left it that has measured nothing yet."""
    manifest = manifest_of(
        plan(*options), command_line=("hwrun", "sweep", *options), run_id="r",
        created_utc="2026-01-01T00:00:00+00:00", testbed={}, workers=(), qdisc="",
    )  # fmt: skip
    write_manifest(folder, manifest)


def test_a_dry_run_lists_what_would_be_measured_and_what_that_takes(capsys, monkeypatch):
    monkeypatch.setattr("hwrun.sweeps.display.run_and_show", lambda *_, **__: pytest.fail("a sweep was begun"))
    options = ("--model", "vgg16", "--splits", "1,39", "--link", "5mbit,200ms", "--repeats", "1", "--mode", "single")
    assert run_command(["sweep", *options, "--dry-run"]) == 0
    *lines, estimated = capsys.readouterr().out.splitlines()
    lines.sort()
    assert lines[0].startswith("vgg16@x86-core[0:1]+x86-core[1:39]/b8/w-/tcp/f32 single 5mbit,200ms #0  skipped: its")
    assert lines[0].endswith("or more, or leave the split out")
    assert lines[1] == "vgg16@x86-core[0:39]+x86-core[39:39]/b8/w-/tcp/f32 single 5mbit,200ms #0"
    assert re.fullmatch(r"1 cells to measure, about 1 min \d+ s \(an estimate\)", estimated)


def test_a_dry_run_of_a_resumed_sweep_is_of_what_is_left(capsys, tmp_path):
    options = ("--splits", "3,5", "--repeats", "1")
    begin_run(tmp_path, *options)
    swept = plan(*options)
    first, second = swept.cells
    append_cell(tmp_path, recorded(first, swept, "done"))
    append_cell(tmp_path, recorded(second, swept, "failed", reason="why", remedy="what to do"))
    assert run_command(["sweep", "--resume", str(tmp_path), "--dry-run"]) == 0
    listed, done, estimated = capsys.readouterr().out.splitlines()
    assert (listed, done) == (str(second), "1 of 2 cells are done")
    assert estimated.startswith("1 cells to measure, about ")


def test_a_folder_resumed_elsewhere_says_what_it_was_started_with(capsys, tmp_path, monkeypatch):
    (tmp_path / "here" / "mine" / "timings").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    options = ("--splits", "3", "--repeats", "1", "--profiles", "mine")
    begin_run(tmp_path, *options)
    monkeypatch.chdir(tmp_path)
    assert run_command(["sweep", "--resume", ".", "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert "profile directory: mine does not exist" in said
    assert "It was started with --splits 3 --repeats 1 --profiles mine: resume it where that was typed, or type" in said
    assert run_command(["sweep", "--resume", ".", "--dry-run", *options[:-1], "here/mine"]) == 0


@pytest.mark.parametrize(
    ("typed", "difference"),
    [
        (["--splits", "3,5", "--repeats", "1", "--seed", "3"], "seed: the folder's is 0, this one's 3"),
        (["--splits", "3", "--repeats", "1"], "cells_planned: the folder's is 2, this one's 1"),
    ],
)
def test_a_dry_run_refuses_what_the_resumed_sweep_would(capsys, tmp_path, typed, difference):
    begin_run(tmp_path, "--splits", "3,5", "--repeats", "1")
    assert run_command(["sweep", "--resume", str(tmp_path), "--model", "mobilenet_v2", *typed, "--dry-run"]) == 2
    shown = capsys.readouterr()
    assert difference in shown.err
    assert shown.out == ""


def test_a_run_is_resumed_as_it_was_measured_unless_it_is_said_how(tmp_path):
    begin_run(tmp_path, "--splits", "3", "--repeats", "2")
    resumed, _ = understood("--resume", str(tmp_path), "--max-cell-time", "90s")
    assert (resumed.splits, resumed.repeats, resumed.max_cell_time) == ("3", 2, "90s")
    typed, _ = understood("--resume", str(tmp_path), "--repeats", "5")
    assert (typed.splits, typed.repeats) == (None, 5)


def test_a_rate_and_a_delay_are_one_link():
    (cell,) = plan("--splits", "1", "--repeats", "1", "--bw", "5mbit", "--delay", "200ms").cells
    (link,) = cell.links
    assert (link.rate_bps, link.one_way_delay_s, cell.link_name) == (5e6, 0.2, "5mbit,200ms")


def test_modes_take_their_parameters():
    cells = plan("--splits", "1", "--repeats", "1", "--mode", "closed", "--window", "7", "--mode", "burst").cells
    assert {str(cell.mode) for cell in cells} == {str(Mode.named("closed", window=7)), str(Mode.named("burst"))}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "vgg17"], "did you mean 'vgg16'"),
        (["--splits", "99"], "expected 0 to 21"),
        (["--emulate", "rpi4b"], "expected two names"),
        (["--emulate", "a,b", "--devices", "a,b"], "leave one out"),
        (["--speed", "2"], "add --emulate"),
        (["--emulate", "a,b", "--speed", "-1"], "got -1.0"),
        (["--emulate", "a,b", "--speed", "nan"], "got nan"),
        (["--window", "2"], "only mode closed"),
        (["--delay", "1ms"], "needs a rate"),
        (["--bw", "1mbit", "--link", "unshaped"], "with --link"),
        (["--batches-per-cell", "1"], "--batches-per-cell: got 1, expected 2"),
        (["--repeats", "0"], "--repeats: got 0"),
        (["--link", "nowhere"], "expected RATE,DELAY"),
        (["--link", "5mbps,1ms"], "write 5mbit for bits"),
        (["--splits", ""], "expected all, interior, or numbers"),
        (["--emulate", ""], "expected two names"),
        (["--devices", "a b,c"], "without white space"),
        (["--devices", "a+b[0:1],c/d"], r"any of \[\]\+@/"),
        (["--batch", "0"], "--batch: got 0"),
        (["--batch", "100000"], "--batch: got 100000.*expected 1337 or fewer"),
        (["--queue-depth", "65"], "--queue-depth: got 65, at most 64"),
        (["--threads", "100000"], "--threads: got 100000, at most .* cores"),
        (["--max-cell-time", ""], "--max-cell-time"),
        (["--max-cell-time", "20"], "--max-cell-time: got '20', expected a unit"),
        (["--tcp-state", "cold"], "give --mode single, and no other"),
        (["--tcp-state", "cold", "--mode", "single", "--sink", "first"], "leave --source and --sink at their defaults"),
        (["--plan", "alexnet@a[0:5]+b[5:20]/b8/w-/tcp/f32"], "ends at block 20, expected 21"),
        (["--plan", "alexnet@a[0:5]+b[5:21]/b8/w-/udp/f32"], "names udp, expected one of tcp, rpc, memory"),
        (["--plan", "alexnet@a[0:5]+b[5:21]/b8/w-/tcp/f16"], "sends f16, expected f32"),
        (["--plan", "alexnet@a[0:5]+b[5:21]/b8/w-/tcp/f32", "--splits", "3"], "only models are split"),
        (["--plan", "alexnet@a[0:5]+b[5:21]/b8/w-/tcp/f32", "--batch", "4"], "--batch: got 4.* has 8; write /b4/"),
        (["--plan", "alexnet@a[0:5]+b[5:21]/b8/w2/tcp/f32", "--mode", "closed", "--window", "3"], "got windows 2, 3"),
        (
            ["--plan", "alexnet@a[0:5]+b[5:21]/b8/w-/tcp/f32", "--emulate", "a"],
            "has b, expected devices of --emulate a",
        ),
        (["--hosts", "A,B,C"], "got 3 hosts"),
        (["--hosts", "A,"], "--hosts: got '' in 'A,', expected up to 63 letters"),
        (["--hosts", "A,../B"], "--hosts: got '../B'"),
        (["--seed", "-1"], "--seed: got -1, expected a whole number of 0 or more"),
        (["--seed", str(2**63)], r"--seed: got 9223372036854775808, .* below 2\^63"),
        (
            ["--resume", "no-such-folder"],
            "holds no manifest.json.*ended before its first cell.*start it again",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_do(options, message):
    with pytest.raises((BadUsageError, BadInputError), match=message):
        plan(*options)


def test_fewer_images_than_a_batch_are_refused_before_torch_loads(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.png").touch()
    options = ("--model", "alexnet", "--splits", "5", "--data", str(tmp_path))
    assert plan(*options, "--batch", "3").images.size == 3
    with pytest.raises(BadUsageError, match="holds 3 images, expected 4 or more"):
        plan(*options, "--batch", "4")


def test_a_device_without_a_timing_cannot_be_emulated():
    with pytest.raises(UnknownNameError, match="hwrun profile"):
        plan("--emulate", "no-such-device,no-such-device")


def test_a_timing_that_is_half_written_does_not_pass_for_none(tmp_path):
    timing = tmp_path / "timings" / "mine" / "alexnet.json"
    timing.parent.mkdir(parents=True)
    options = ["--model", "alexnet", "--devices", "mine,mine", "--splits", "3", "--profiles", str(tmp_path)]
    assert len(plan(*options).cells) == 5
    timing.write_text('{"schema_version": 1, "dev')
    with pytest.raises(ProfileError, match=r"alexnet\.json: not whole JSON"):
        plan(*options)


def test_a_mode_that_is_only_predicted_is_no_choice(capsys):
    with pytest.raises(SystemExit):
        parsed(["--mode", "open"])
    assert "invalid choice: 'open'" in capsys.readouterr().err


def test_what_paretosim_plan_prints_is_what_a_sweep_measures(capsys):
    words = ["plan", "--model", "mobilenet_v2", "--devices", "rpi4b,rpi4b,rpi4b", "--bw", "100mbit", "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    plans = [row["plan"] for row in found["rows"]]
    assert {len(Plan.parse(text).stages) for text in plans} == {2, 3}
    options = [word for text in plans for word in ("--plan", text)]
    cells = plan("--emulate", "rpi4b", *options).cells
    assert {str(cell.plan) for cell in cells} == set(plans)
