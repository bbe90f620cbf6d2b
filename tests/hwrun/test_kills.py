"""A worker, the relay and the orchestrator killed five times each; `make soak` does it fifty times."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from hwrun.local.namespaces import availability
from tests.soak.kills import VICTIMS, Torment


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.skipif(availability().how == "none", reason=str(availability().reason))
def test_whoever_is_killed_every_cell_is_there_once_and_nothing_is_left(tmp_path: Path) -> None:
    victims = list(VICTIMS) * 5
    random.Random(1).shuffle(victims)
    torment = Torment(tmp_path, seed=1, cells=8, moments_s=(0.5, 6.0))
    torment.kill(victims)
    torment.check()
    assert torment.kills == dict.fromkeys(VICTIMS, 5)
