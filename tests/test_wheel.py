"""A wheel carries its profiles, and works where no checkout is."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("hatchling") is None, reason="needs hatchling, of the dev extra"),
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    line = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content in a folder of its own, as an installation lays it out."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def _paretosim(installed: Path, elsewhere: Path, *arguments: str) -> str:
    # -P and PYTHONPATH first: neither the working directory nor the checkout's own path entry comes before it.
    environment = {key: value for key, value in os.environ.items() if key not in ("PARETOSIM_PROFILES", "PYTHONPATH")}
    environment["PYTHONPATH"] = str(installed)
    line = [sys.executable, "-P", "-m", "paretosim.cli", *arguments]
    done = subprocess.run(line, cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_the_packages_and_every_profile_of_the_checkout(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {"paretosim/cli.py", "hwrun/records/runs.py", "validation/cli.py"} <= names
    listed = subprocess.run(["git", "ls-files", "profiles"], cwd=ROOT, capture_output=True, text=True, check=False)
    profiles = listed.stdout.split() or [str(p.relative_to(ROOT)) for p in (ROOT / "profiles").rglob("*.json")]
    assert len(profiles) > 20
    assert {f"paretosim/{name}" for name in profiles if (ROOT / name).exists()} <= names
    assert not any(name.startswith("tests/") for name in names)


def test_the_wheel_asks_for_no_torch_unless_the_extra_does(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        required = [
            line for line in archive.read(metadata).decode().splitlines() if line.startswith("Requires-Dist: ")
        ]  # fmt: skip
    base = {line.split()[1].split(">")[0] for line in required if "extra ==" not in line}
    assert base == {"numpy", "rich", "msgspec"}


def test_an_installed_wheel_finds_its_profiles_in_an_empty_directory(installed: Path, tmp_path: Path) -> None:
    listed = json.loads(_paretosim(installed, tmp_path, "list", "--json"))
    assert "vgg16" in listed["models"]
    assert {"rpi4b", "rtx4090"} <= set(listed["devices"])
    assert "vgg16" in _paretosim(installed, tmp_path, "list")
    found = json.loads(_paretosim(installed, tmp_path, "predict", "--model", "vgg16", "--bw", "5mbit", "--json"))
    assert [row["split"] for row in found["rows"]] == list(range(40))
    assert "Verdict: " in _paretosim(installed, tmp_path, "predict", "--model", "vgg16", "--devices", "rpi4b,rtx4090")
    assert list(tmp_path.iterdir()) == []


def test_it_is_the_wheel_that_runs(installed: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(installed)}
    code = "from paretosim.profiles import shipped_directory; print(shipped_directory())"
    line = [sys.executable, "-P", "-c", code]
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert Path(done.stdout.strip()) == installed / "paretosim" / "profiles"
