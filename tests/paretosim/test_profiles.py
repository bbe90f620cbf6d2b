"""Profile files: where they are found, and errors that name file, field, value and expectation."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from paretosim.block import Model
from paretosim.device import Device
from paretosim.errors import BadInputError, ProfileError, UnknownNameError
from paretosim.profiles import ProfileStore, identity, nearest, read_profile, read_timing_csv, write_profile
from paretosim.timing import Timing


def _rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_a_written_profile_reads_back_and_leaves_no_other_file(toy: Any, tmp_path: Path) -> None:
    path = tmp_path / "new" / "toy.json"
    write_profile(path, toy.model())
    assert read_profile(path, Model) == toy.model()
    assert list(path.parent.iterdir()) == [path]


def test_a_users_directory_is_searched_before_the_shipped_one(toy: Any, profiles: Path) -> None:
    write_profile(profiles / "devices" / "rpi4b.json", toy.device("rpi4b", memory_bytes=123))
    assert ProfileStore([profiles]).device("rpi4b").memory_bytes == 123
    assert ProfileStore([profiles]).model("vgg16").name == "vgg16"  # still found in the shipped one
    assert "toy" in ProfileStore([profiles]).names("models")


def test_directories_come_before_those_of_the_environment(
    toy: Any, profiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = toy.write_profiles(tmp_path / "first")
    write_profile(first / "devices" / "one.json", toy.device("one", memory_bytes=1))
    monkeypatch.setenv("PARETOSIM_PROFILES", os.pathsep.join([str(profiles), ""]))
    assert ProfileStore().device("one").memory_bytes == 10**9
    assert ProfileStore([first]).device("one").memory_bytes == 1
    assert ProfileStore().directories[0] == profiles


def test_a_directory_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInputError, match=r"gone does not exist; expected one that holds models/"):
        ProfileStore([tmp_path / "gone"])
    monkeypatch.setenv("PARETOSIM_PROFILES", str(tmp_path / "gone"))
    with pytest.raises(BadInputError, match="gone does not exist"):
        ProfileStore()


def test_a_directory_of_other_things_is_refused_and_an_empty_one_is_not(tmp_path: Path) -> None:
    assert ProfileStore([tmp_path]).directories[0] == tmp_path
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(BadInputError, match=rf"{tmp_path.name} holds no profiles; expected one that holds models/"):
        ProfileStore([tmp_path])
    (tmp_path / "timings").mkdir()
    assert ProfileStore([tmp_path]).directories[0] == tmp_path


def test_an_unknown_name_lists_the_known_and_the_nearest(profiles: Path) -> None:
    store = ProfileStore([profiles])
    with pytest.raises(
        UnknownNameError, match=r"model: got 'vgg-16', expected one of alexnet, .*; did you mean 'vgg16'"
    ):
        store.model("vgg-16")
    with pytest.raises(UnknownNameError, match=r"device: got 'xyz', expected one of .*one.*") as refusal:
        store.device("xyz")
    assert "did you mean" not in str(refusal.value)
    with pytest.raises(UnknownNameError, match=r"link: got 'etherent-1g'.*did you mean 'ethernet-1g'"):
        store.link("etherent-1g")
    assert nearest("RPI4B", ("rpi4b",)) == "; did you mean 'rpi4b'?"


@pytest.mark.parametrize(
    "name", ["../x", "../models/toy", "../../profiles/models/toy", "sub/toy", "", ".", "..", "toy.json", "a\0b",
             "x" * 5000, "..\\x"]
)  # fmt: skip
def test_no_name_leads_out_of_its_folder(toy: Any, profiles: Path, name: str) -> None:
    (profiles / "x.json").write_text("not a profile")
    write_profile(profiles / "models" / "sub" / "toy.json", toy.model())
    store = ProfileStore([profiles])
    for read in (store.model, store.device, store.link):
        with pytest.raises(UnknownNameError) as refusal:
            read(name)
        assert len(str(refusal.value)) < 1000
    with pytest.raises(UnknownNameError):
        store.timing("one", name)
    with pytest.raises(UnknownNameError):
        store.timing(name, "toy")
    assert store.timed_models(name) == ()


def test_an_absolute_path_is_no_name(profiles: Path) -> None:
    with pytest.raises(UnknownNameError):
        ProfileStore([profiles]).model(str(profiles / "models" / "toy"))


def test_a_missing_timing_says_how_to_measure_it(profiles: Path) -> None:
    with pytest.raises(
        UnknownNameError, match=r"none of 'vgg16' on 'one'; .* hwrun profile --device-name one --model vgg16"
    ):
        ProfileStore([profiles]).timing("one", "vgg16")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v: v["blocks"][1].update(flops="many"), r"blocks\[1\].flops: got 'many': Expected `int`, got `str`"),
        (lambda v: v["blocks"][0].update(flops=1.5), r"blocks\[0\].flops: got 1.5: Expected `int`"),
        (lambda v: v["blocks"][0].update(flops=-1), "flops: got -1, expected 0 or more"),
        (lambda v: v["blocks"][0].pop("flops"), r"blocks\[0\]: got .*missing required field `flops`"),
        (lambda v: v["blocks"][0].update(colour=1), r"blocks\[0\]: got .*unknown field `colour`"),
        (lambda v: v.update(schema_version=2), "schema_version: got 2, expected 1"),
        (lambda v: v.update(schema_version=None), "schema_version: got None: Expected `int`"),
        (lambda v: v.update(blocks=[]), "blocks: got none, expected at least one"),
        (lambda v: v["input"].update(dtype="f4"), "dtype: got 'f4', expected one of float64"),
        (lambda v: v["input"].update(shape=[0]), r"shape: got \[0\], expected positive"),
        (lambda v: v.update(name="other"), "name: got 'other', expected 'toy' as its path says"),
    ],
)
def test_a_model_that_fails_its_schema_is_named_with_field_value_and_expectation(
    profiles: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    path = profiles / "models" / "toy.json"
    _rewrite(path, change)
    with pytest.raises(ProfileError, match=said) as refusal:
        ProfileStore([profiles]).model("toy")
    assert str(refusal.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v: v["batches"][0]["blocks"][0].update(value_s=-0.1), "block 'b0': got -0.1 s, expected a finite time"),
        (lambda v: v["batches"][0]["blocks"][0].update(samples_s=[1.0]), "either samples_s or value_s"),
        (
            lambda v: v["batches"][0]["blocks"][0].update(value_s="fast"),
            r"batches\[0\].blocks\[0\].value_s: got 'fast'",
        ),
        (lambda v: v.update(kind="guessed"), "kind: got 'guessed': Invalid enum value"),
        (
            lambda v: v.update(device="two"),
            "device and model: got 'two' and 'toy', expected 'one' and 'toy' as its path",
        ),
        (lambda v: v.update(model="vgg16"), "got 'one' and 'vgg16', expected 'one' and 'toy'"),
        (lambda v: v.update(error={"relative": -1, "meaning": ""}), "error.relative: got -1"),
        (lambda v: v["batches"].append({**v["batches"][0], "batch": 0}), "batch: got 0, expected 1 or more"),
    ],
)
def test_a_timing_that_fails_its_schema_is_named_too(
    profiles: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    path = profiles / "timings" / "one" / "toy.json"
    _rewrite(path, change)
    with pytest.raises(ProfileError, match=said) as refusal:
        ProfileStore([profiles]).timing("one", "toy")
    assert str(refusal.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{", b"[]", b"null", b'{"schema_version": 1, "name"', b'{"schema_version": "x", "name"', b"\xff\xfe{}",
        b'{"schema_version": 1, "name": "\xff", "title": ""}', b'{"memory_bytes": NaN}', b'{"memory_bytes": 1e999}',
        b'{"schema_version": 1, "name": "a", "title": "a", "idle_power_w": 1e999}',
        b'{"schema_version":' + b"[" * 100_000, b'{"x":' * 100_000,
    ],
)  # fmt: skip
def test_half_written_files_and_garbage_are_refused_with_their_path(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(raw)
    with pytest.raises(ProfileError) as refusal:
        read_profile(path, Device)
    assert str(refusal.value).startswith(f"{path}: ")
    assert len(str(refusal.value)) < 400


def test_a_file_that_cannot_be_read_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(ProfileError, match=r"folder.json: cannot be read: Is a directory"):
        read_profile(tmp_path / "folder.json", Device)


# CSV files that users write by hand.


def _csv(tmp_path: Path, toy: Any, text: str | bytes) -> Timing:
    path = tmp_path / "mine.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_timing_csv(path, "one", toy.model())


@pytest.mark.parametrize(
    "text",
    [
        "block,seconds\nb0,0.1\nb1,0.3\n",
        "b0,0.1\nb1,0.3",
        "Block, Seconds\nb1,0.3\nb0,0.1\n",
        "\ufeffblock,seconds\r\nb0,0.1\r\nb1,0.3\r\n",
        "1,0.1\n2,0.3\n",
        '"b0" , "0.1"\n\n"b1", 3e-1\n',
        "# my own board\n# batch: 8\nb0,0.1\nb1,0.3\n",
        "b0,0.1\n1,0.1\nb0,9\nb1,0.3\n",
    ],
)
def test_a_csv_by_hand_is_read_with_or_without_heading_names_or_numbers(toy: Any, tmp_path: Path, text: str) -> None:
    timing = _csv(tmp_path, toy, text)
    assert timing.at_batch(8) == ((0.1, 0.3), "measured")
    assert (timing.device, timing.model, timing.error) == ("one", "toy", None)


def test_a_csv_can_say_its_batch_size(toy: Any, tmp_path: Path) -> None:
    assert _csv(tmp_path, toy, "# batch: 2\nb0,0.1\nb1,0.3\n").batches[0].batch == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"mine.csv: no time for 2 of 2 blocks, first 'b0'; expected one row or more for each"),
        ("b0,0.1\n", "no time for 1 of 2 blocks, first 'b1'"),
        ("b0,0.1\nb9,0.3\n", r"line 2: block: got 'b9', expected 1 to 2 or a block of toy; did you mean"),
        ("0,0.1\n", "line 1: block: got '0'"),
        ("3,0.1\n", "line 1: block: got '3'"),
        ("-1,0.1\n", "line 1: block: got '-1'"),
        ("²,0.1\n", "line 1: block: got '²'"),
        ("1" * 5000 + ",0.1\n", "line 1: block: got '1111"),
        ("b0,0.1\nb1,fast\n", "line 2: seconds: got 'fast', expected a number of seconds"),
        ("b0,\nb1,1\n", "line 1: seconds: got ''"),
        ("b0,-0.1\n", "line 1: seconds: got '-0.1', expected a finite time of 0 or more"),
        ("b0,nan\n", "line 1: seconds: got 'nan'"),
        ("b0,1e999\n", "line 1: seconds: got '1e999'"),
        ("b0,0,1\n", "line 1: got 3 columns, expected two: block,seconds"),
        ("b0;0.1\n", "line 1: got 1 columns"),
        ("b0,0\nb1,0\n", "all take 0 s"),
        ("# batch: 0\n", "line 1: batch: got '0', expected a whole number from 1"),
        ("# batch: 1.5\n", "line 1: batch: got '1.5'"),
        ("# batch: " + "9" * 5000, "line 1: batch: got '9999"),
        (b"\x00\x01\xfe\xff", "cannot be read as text"),
        (b"\x89PNG\r\n", "cannot be read as text"),
    ],
)
def test_a_csv_that_says_something_else_is_refused_with_its_line(
    toy: Any, tmp_path: Path, text: Any, said: str
) -> None:
    with pytest.raises(ProfileError, match=said) as refusal:
        _csv(tmp_path, toy, text)
    assert str(refusal.value).startswith(str(tmp_path / "mine.csv"))


def test_a_csv_that_is_not_there_is_refused(toy: Any, tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"gone.csv: cannot be read"):
        read_timing_csv(tmp_path / "gone.csv", "one", toy.model())


def test_a_csv_in_a_profile_directory_is_a_timing(profiles: Path) -> None:
    folder = profiles / "timings" / "one"
    (folder / "toy.json").unlink()
    (folder / "toy.csv").write_text("b0,0.1\nb1,0.3\n")
    store = ProfileStore([profiles])
    assert store.timed_models("one") == ("toy",)
    assert store.timing("one", "toy").at_batch(8)[0] == (0.1, 0.3)


def test_equal_content_has_equal_identity_whatever_it_was_read_from(toy: Any) -> None:
    assert identity(toy.model(), toy.device()) == identity(toy.model(), toy.device())
    assert identity(toy.model()) != identity(msgspec.structs.replace(toy.model(), classes=3))
    assert identity("ab", "c") != identity("a", "bc")
