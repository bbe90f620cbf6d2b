"""The shipped calibrations: fitted on the reference data set as it is kept, and on nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

import validation
from hwrun.records import read_run
from paretosim.calibration import Backend
from paretosim.cli import main
from paretosim.profiles import ProfileStore
from validation.commands.calibrate import hash_of

REFERENCE = Path(validation.__file__).parent / "reference"


@pytest.mark.parametrize("backend", ["tcp", "rpc"])
def test_a_shipped_calibration_is_of_the_reference_set_as_it_is_kept(backend: Backend) -> None:
    found = ProfileStore().calibration(f"local-testbed-{backend}")
    runs = [read_run(folder) for folder in sorted(REFERENCE.glob(f"emulated-*-{backend}-*"))]
    assert (found.backend, found.is_disputed) == (backend, False)
    assert found.hashes == {run.manifest.run_id: hash_of(run) for run in runs}
    assert set(found.fitted_on) == set(found.hashes)
    assert set(found.devices) == {"*"}  # emulated devices teach of their host alone
    assert "emulated devices" in found.title


@pytest.mark.parametrize("backend", ["tcp", "rpc"])
def test_a_prediction_takes_it_by_its_name(backend: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["predict", "--model", "alexnet", "--backend", backend, "--calibration", f"local-testbed-{backend}"]
    assert main(options) == 0
    assert f"local-testbed-{backend}" in capsys.readouterr().out
