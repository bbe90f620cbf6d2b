"""Options of `hwrun sweep`: what they mean, and what is refused before anything starts."""

import json

import pytest

from hwrun.commands.sweep import QUICK, parsed, resumed, spelled
from hwrun.commands.sweep_conditions import sweep_plan
from hwrun.errors import BadUsageError
from paretosim.cli import main
from paretosim.errors import BadInputError, ProfileError, UnknownNameError
from paretosim.mode import Mode
from paretosim.plan import Plan


def plan(*options):
    arguments = parsed(options)
    return sweep_plan(arguments if arguments.resume is None else resumed(arguments, parsed([])))


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


def test_a_bare_sweep_is_small_and_parses():
    assert parsed(QUICK.split()).repeats == 1


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
        (["--plan", "alexnet@a[0:5]+b[5:21]/b8/w2/tcp/f32", "--mode", "closed", "--window", "3"], "got windows 2, 3"),
        (
            ["--plan", "alexnet@a[0:5]+b[5:21]/b8/w-/tcp/f32", "--emulate", "a"],
            "has b, expected devices of --emulate a",
        ),
        (["--hosts", "A,B,C"], "got 3 hosts"),
        (
            ["--resume", "no-such-folder"],
            "holds no manifest.json.*ended before its first cell.*start it again",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_do(options, message):
    with pytest.raises((BadUsageError, BadInputError), match=message):
        plan(*options)


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
