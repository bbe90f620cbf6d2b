"""How long `paretosim predict` takes as a whole process, over importing NumPy and rich alone."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.benchmarks.ratio import Ratio, process_ratio


def predict_start() -> Ratio:
    """Cold `paretosim predict` of 40 splits against `python -c "import numpy, rich.table"`."""
    paretosim = str(Path(sys.executable).with_name("paretosim"))
    return process_ratio(
        "paretosim predict, whole process, over importing numpy and rich.table",
        [paretosim, "predict", "--model", "vgg16", "--bw", "5mbit", "--delay", "200ms"],
        [sys.executable, "-c", "import numpy, rich.table"],
        pairs=30,
        bar=1.6,
    )
