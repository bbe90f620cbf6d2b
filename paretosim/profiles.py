"""Profile files: where they are found, read with checks, and written.

A profile directory holds `models/`, `devices/`, `timings/<device>/`, `links/` and `calibrations/`. The
shipped one is inside the installed package (or beside it in a checkout); a user's own directories are
searched first, so that a measured timing replaces a shipped reconstruction.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from paretosim.block import Model
from paretosim.calibration import Calibration, check_schema_version
from paretosim.device import Device
from paretosim.errors import BadInputError, ProfileError, UnknownNameError
from paretosim.indented_json import indented_json
from paretosim.link import Link
from paretosim.timing import BatchTiming, BlockTiming, Timing
from paretosim.whole_file import write_whole

ENVIRONMENT_VARIABLE = "PARETOSIM_PROFILES"
_Noun = TypeVar("_Noun", bound=msgspec.Struct)
_Named = TypeVar("_Named", Model, Device, Link, Calibration)
_FOLDERS = ("models", "devices", "timings", "links", "calibrations")
_SHOWN_CHARACTERS = 80
_LONGEST_NAME = 100  # with its suffix well under the 255 bytes of common file systems


def shipped_directory() -> Path:
    """The profiles that came with the package."""
    package = Path(__file__).resolve().parent
    for directory in (package / "profiles", package.parent / "profiles"):
        if (directory / "models").is_dir():
            return directory
    raise ProfileError(f"profiles: none beside {package}, expected an installed package to carry them; reinstall it")


class ProfileStore:
    """Profile directories searched in order, a user's own before the shipped one.

    Parameters
    ----------
    directories : searched first, in this order; then those of $PARETOSIM_PROFILES; then the shipped one.
    """

    def __init__(self, directories: Iterable[Path] = ()) -> None:
        from_environment = os.environ.get(ENVIRONMENT_VARIABLE, "").split(os.pathsep)
        own = [*map(Path, directories), *(Path(entry) for entry in from_environment if entry)]
        for directory in own:
            if problem := _why_no_profiles(directory):
                raise BadInputError(
                    f"profile directory: {directory} {problem}; expected one that holds models/, devices/, timings/,"
                    " links/ or calibrations/"
                )
        self.directories: tuple[Path, ...] = (*own, shipped_directory())

    def model(self, name: str) -> Model:
        """The model profile of that name."""
        return self._read("models", name, Model)

    def device(self, name: str) -> Device:
        """The device profile of that name."""
        return self._read("devices", name, Device)

    def link(self, name: str) -> Link:
        """The link preset of that name."""
        return self._read("links", name, Link)

    def calibration(self, name: str) -> Calibration:
        """The calibration of that name; one that is a path (ends in .json) is read from there."""
        if name.endswith(".json"):
            return read_profile(Path(name), Calibration)
        return self._read("calibrations", name, Calibration)

    def timing(self, device: str, model: str) -> Timing:
        """Block times of `model` on `device`; a JSON file, or a CSV written by hand."""
        for directory in self.directories if _is_plain(device) and _is_plain(model) else ():
            folder = directory / "timings" / device
            if (path := folder / f"{model}.json").is_file():
                timing = read_profile(path, Timing)
                if (timing.device, timing.model) != (device, model):
                    raise ProfileError(
                        f"{path}: device and model: got {timing.device!r} and {timing.model!r},"
                        f" expected {device!r} and {model!r} as its path says"
                    )
                return timing
            if (path := folder / f"{model}.csv").is_file():
                return read_timing_csv(path, device, self.model(model))
        timed = [name for name in self.names("devices") if model in self.timed_models(name)]
        raise UnknownNameError(
            f"timing: none of {model!r} on {device!r}; devices with a timing of it: {', '.join(timed) or 'none'}."
            f" Measure one with: hwrun profile --device-name {device} --model {model}"
        )

    def timed_models(self, device: str) -> tuple[str, ...]:
        """Names of the models that `device` has a timing of."""
        if not _is_plain(device):
            return ()
        found = {
            path.stem
            for directory in self.directories
            for path in (directory / "timings" / device).glob("*")
            if path.suffix in (".json", ".csv")
        }
        return tuple(sorted(found))

    def names(self, folder: str) -> tuple[str, ...]:
        """Names of all profiles in `models`, `devices`, `links` or `calibrations`."""
        return tuple(sorted({p.stem for directory in self.directories for p in (directory / folder).glob("*.json")}))

    def _read(self, folder: str, name: str, noun: type[_Named]) -> _Named:
        for directory in self.directories if _is_plain(name) else ():
            path = directory / folder / f"{name}.json"
            if path.is_file():
                value = read_profile(path, noun)
                if value.name != name:
                    raise ProfileError(f"{path}: name: got {value.name!r}, expected {name!r} as its path says")
                return value
        known = self.names(folder)
        shown = name if len(name) <= _SHOWN_CHARACTERS else name[: _SHOWN_CHARACTERS - 1] + "…"
        raise UnknownNameError(
            f"{folder.removesuffix('s')}: got {shown!r}, expected one of {', '.join(known) or '(there are none)'}"
            f"{nearest(shown, known)}"
        )


def _why_no_profiles(directory: Path) -> str:
    """Why a directory is none of profiles, if it is none. An empty one is one that is about to be filled."""
    if not directory.is_dir():
        return "does not exist"
    if not any((directory / folder).is_dir() for folder in _FOLDERS) and any(directory.iterdir()):
        return "holds no profiles"
    return ""


def _is_plain(name: str) -> bool:
    """Whether a name can be a profile's: no way out of its folder, and short enough for a file system."""
    return 0 < len(name) <= _LONGEST_NAME and not name.startswith(".") and not set(name) & set("/\\\0")


def nearest(name: str, known: Sequence[str]) -> str:
    """`; did you mean …?` where a known name is spelled alike, else nothing."""
    import difflib  # here, and below: only an error or a hash needs them, and a prediction should start fast

    match = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    return f"; did you mean {match[0]!r}?" if match else ""


def read_profile(path: Path, noun: type[_Noun]) -> _Noun:
    """The value in a JSON profile file.

    Raises
    ------
    ProfileError : unreadable, half-written, or not of the schema; says file, field, value, expectation.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ProfileError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        return msgspec.json.decode(raw, type=noun)
    except msgspec.ValidationError as error:
        _check_schema_of_calibration(path, noun, raw)
        raise ProfileError(f"{path}: {_with_value(str(error), raw)}") from error
    except BadInputError as error:  # a noun's own check
        raise ProfileError(f"{path}: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProfileError(
            f"{path}: not whole JSON ({error}{_near(str(error), raw)}); write it again, or restore it"
        ) from error


def _near(message: str, raw: bytes) -> str:
    """What stands where msgspec's message says that it is no JSON; a NaN is often what Python's own json wrote."""
    found = re.search(r"\(byte (\d+)\)", message)
    if found is None:
        return ""
    at = int(found[1])
    near = raw[max(0, at - 20) : at + 10].decode(errors="replace")
    return f", in {near!r}{', and JSON has no such number' if raw[at:].startswith((b'N', b'I')) else ''}"


class _OldCalibration(msgspec.Struct):
    """What tells a calibration of another schema from any other file with a version."""

    schema_version: int
    name: str
    backend: str


def _check_schema_of_calibration(path: Path, noun: type[msgspec.Struct], raw: bytes) -> None:
    """Say of an old calibration that it is one, and not which of its fields is strange now."""
    if noun is not Calibration:
        return
    try:
        check_schema_version(msgspec.json.decode(raw, type=_OldCalibration).schema_version)
    except msgspec.MsgspecError:
        return
    except BadInputError as error:
        raise ProfileError(f"{path}: {error}") from error


def _with_value(message: str, raw: bytes) -> str:
    """Msgspec's message with the field first and the value that stands there, where it has a path."""
    text, separator, location = message.partition(" - at `$")
    if not separator:
        return message
    field = location.rstrip("`").removeprefix(".")
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # the rest of the file is broken too
        return f"{field}: {text}"
    for key in field.replace("[", ".[").split("."):
        try:
            value = value[int(key.strip("[]"))] if key.startswith("[") else value[key]
        except (KeyError, IndexError, TypeError, ValueError):
            return f"{field}: {text}"
    shown = repr(value)
    return f"{field}: got {shown if len(shown) < 80 else shown[:77] + '…'}: {text}"


def write_profile(path: Path, value: msgspec.Struct) -> None:
    """Write a profile as indented JSON; the old file stays whole until the new one is.

    Raises
    ------
    ProfileError : it cannot be written there.
    """
    raw = indented_json(value)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda unfinished: unfinished.write_bytes(raw))
    except OSError as error:
        raise ProfileError(f"{path}: cannot be written: {error.strerror or error}; name another with -o") from error


def read_timing_csv(path: Path, device: str, model: Model) -> Timing:
    """A user's own timings: two columns, block and seconds for a batch, an optional heading.

    A line `# batch: 8` gives the batch size (default 8). Rows name blocks, or number them from 1.
    Repeated rows of a block are repeats of its measurement.

    Raises
    ------
    ProfileError : a row that is not a block of `model` and a time, or a block without any.
    """
    batch = 8
    samples: dict[str, list[float]] = {block.name: [] for block in model.blocks}
    names = list(samples)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileError(f"{path}: cannot be read as text: {error}") from error
    for number, line in enumerate(lines, start=1):
        where = f"{path}, line {number}"
        if line.strip().startswith("#"):
            key, _, value = line.strip(" #").partition(":")
            if key.strip().lower() == "batch":
                batch = _whole_number(value.strip())
                if batch < 1:
                    raise ProfileError(f"{where}: batch: got {value.strip()!r}, expected a whole number from 1")
            continue
        if not line.strip():
            continue
        row = [cell.strip(' "') for cell in line.split(",")]
        if [cell.lower() for cell in row] == ["block", "seconds"]:
            continue
        if len(row) != 2:
            raise ProfileError(f"{where}: got {len(row)} columns, expected two: block,seconds")
        numbered = _whole_number(row[0])
        name = names[numbered - 1] if 1 <= numbered <= len(names) else row[0]
        if name not in samples:
            raise ProfileError(
                f"{where}: block: got {row[0]!r}, expected 1 to {len(names)} or a block of {model.name}"
                f"{nearest(name, names)}"
            )
        try:
            seconds = float(row[1])
        except ValueError as error:
            raise ProfileError(f"{where}: seconds: got {row[1]!r}, expected a number of seconds") from error
        if not 0 <= seconds < float("inf"):
            raise ProfileError(f"{where}: seconds: got {row[1]!r}, expected a finite time of 0 or more")
        samples[name].append(seconds)
    missing = [name for name, values in samples.items() if not values]
    if missing:
        raise ProfileError(
            f"{path}: no time for {len(missing)} of {len(names)} blocks, first {missing[0]!r};"
            " expected one row or more for each"
        )
    blocks = tuple(BlockTiming(name=name, samples_s=tuple(values)) for name, values in samples.items())
    try:
        return Timing(
            schema_version=1,
            device=device,
            model=model.name,
            kind="measured",
            how=f"given by the user in {path.name}; its error is not known",
            batches=(BatchTiming(batch=batch, blocks=blocks),),
        )
    except BadInputError as error:
        raise ProfileError(f"{path}: {error}") from error


def _whole_number(text: str) -> int:
    """The whole number that ASCII digits write, 0 for anything else."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0


def identity(*values: msgspec.Struct | str) -> str:
    """A short hash of profile values: equal for equal content, whatever files it came from."""
    import hashlib

    digest = hashlib.sha256()
    for value in values:
        digest.update(msgspec.json.encode(value, order="sorted") + b"\0")
    return digest.hexdigest()[:16]
