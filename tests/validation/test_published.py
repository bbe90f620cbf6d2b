from __future__ import annotations

from pathlib import Path

import pytest

from paretosim.profiles import ProfileStore, shipped_directory
from validation.errors import PublishedTableError
from validation.published import read_published, split_of_index, stage_times

BLOCK_COUNTS = {"toy": 5}
HEADER = "model,split,stage1_s,stage2_s,network_s,stage1_mem_pct,stage2_mem_pct"
GPU_HEADER = HEADER.replace("stage2_mem_pct", "gpu_mem_pct")


def write_tables(folder: Path, pi_row: str, gpu_row: str = "toy,1,0.5,0.009,0.1,20,5") -> Path:
    (folder / "pi_to_pi.csv").write_text(f"{HEADER}\n{pi_row}\n")
    (folder / "pi_to_gpu.csv").write_text(f"{GPU_HEADER}\n{gpu_row}\n")
    return folder


@pytest.mark.parametrize(
    ("model", "index", "split"),
    [
        ("mobilenet_v2", 17, 17),
        ("alexnet", 11, 11),
        ("vgg16", 29, 29),
        ("resnet18", 1, 5),
        ("resnet50", 15, 19),
        ("inception_v3", 15, 15),
        ("inception_v3", 16, 17),
        ("inception_v3", 19, 20),
    ],
)
def test_paper_index_becomes_the_split_that_the_authors_programs_made(model: str, index: int, split: int) -> None:
    assert split_of_index(model, index) == split


def test_shipped_tables_have_every_row_of_the_paper() -> None:
    store = ProfileStore()
    block_counts = {name: len(store.model(name).blocks) for name in store.names("models")}
    rows = read_published(shipped_directory() / "published", block_counts)
    assert len(rows) == 18
    assert len(stage_times(rows, block_counts, "rpi4b")) == 2 * 12 + 6
    assert len(stage_times(rows, block_counts, "rtx4090")) == 6
    alexnet = next(row for row in rows if row.name == "alexnet P11 (pi_to_pi)")
    assert (alexnet.split, alexnet.stages_s, alexnet.network_s) == (11, (0.419, 0.379), 0.045)


def test_a_row_gives_a_time_of_each_stage_with_its_blocks(tmp_path: Path) -> None:
    rows = read_published(write_tables(tmp_path, "toy,2,1.25,0.002,0.1,20,20"), BLOCK_COUNTS)
    first, second, before_gpu = stage_times(rows, BLOCK_COUNTS, "rpi4b")
    assert (first.first, first.last, first.seconds) == (0, 2, 1.25)
    assert (second.first, second.last, second.seconds) == (2, 5, 0.002)
    assert (before_gpu.first, before_gpu.last, before_gpu.seconds) == (0, 1, 0.5)
    assert [time.seconds for time in stage_times(rows, BLOCK_COUNTS, "rtx4090")] == [0.009]


def test_rounding_is_half_a_unit_of_the_last_printed_digit(tmp_path: Path) -> None:
    (row, _) = read_published(write_tables(tmp_path, "toy,2,13.37,0.002,0.1,20,20"), BLOCK_COUNTS)
    assert row.resolution_s == pytest.approx((0.005, 0.0005))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("vgg61,2,1,1,1,1,1", "line 2: model: got 'vgg61', expected one of toy"),
        ("toy,two,1,1,1,1,1", "line 2: split: got 'two', expected the paper's index"),
        ("toy,5,1,1,1,1,1", "line 2: split: P5 is split 5, expected 1 to 4 of toy"),
        ("toy,2,fast,1,1,1,1", "line 2: stage1_s: got 'fast', expected a number"),
        ("toy,2,nan,1,1,1,1", "line 2: stage1_s: got 'nan', expected a finite number above 0"),
        ("toy,2,1,-1,1,1,1", "line 2: stage2_s: got '-1', expected a finite number above 0"),
        ("toy,2,1,1", "line 2: network_s: got None, expected a number"),
    ],
)
def test_a_row_that_is_not_of_its_columns_is_refused_with_file_line_and_field(
    tmp_path: Path, row: str, message: str
) -> None:
    with pytest.raises(PublishedTableError, match=message.replace("(", r"\(")) as caught:
        read_published(write_tables(tmp_path, row), BLOCK_COUNTS)
    assert "pi_to_pi.csv" in str(caught.value)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(PublishedTableError, match=r"pi_to_pi\.csv: cannot be read: No such file"):
        read_published(tmp_path, BLOCK_COUNTS)
