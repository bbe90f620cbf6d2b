"""The JSON object and CSV rows that other programs read: exact spellings (DESIGN, "Commands")."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import msgspec
import pytest

from paretosim.mode import Mode
from paretosim.prediction import predict
from paretosim.show.prediction_json import as_csv, as_json, as_object, setting_identity

OBJECT_KEYS = {
    "schema_version", "model", "mode", "batch", "backend", "window", "source", "sink", "tcp_state", "splits", "links",
    "devices", "timing_kinds", "profile_error", "calibration", "versions", "identity", "seed", "baselines", "rows",
    "recommended",
}  # fmt: skip
LINK_KEYS = {"rate_bps", "one_way_delay_s", "return_rate_bps", "return_delay_s"}
ROW_KEYS = {
    "split", "latency_s", "throughput_per_s", "period_s", "bottleneck", "stages_s", "links_s", "delays_s",
    "activation_bytes", "memory_bytes", "fits", "on_front",
}  # fmt: skip


def _read(toy: Any, **fields: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(as_json(predict(toy.setting(**fields))))
    return found


def test_the_documented_keys_are_there(toy: Any) -> None:
    found = _read(toy)
    assert set(found) >= OBJECT_KEYS
    assert set(found["links"][0]) >= LINK_KEYS
    assert set(found["baselines"]) == {"first_device", "second_device"}
    assert set(found["recommended"]) == {"latency", "throughput", "knee", "verdict"}
    for row in found["rows"]:
        assert set(row) >= ROW_KEYS
        assert "latency_from_start_s" not in row


def test_values_are_those_of_the_prediction(toy: Any) -> None:
    setting = toy.setting(outputs=(50, 10), link=toy.link(1e6, 0.05, return_delay_s=0.01))
    prediction = predict(setting)
    found = json.loads(as_json(prediction))
    assert (found["model"], found["mode"], found["batch"], found["window"]) == ("toy", "paced", 8, None)
    assert (found["source"], found["sink"], found["tcp_state"], found["splits"]) == ("stage1", "last", "warm", "all")
    assert (found["devices"], found["timing_kinds"]) == (["one", "two"], ["measured", "measured"])
    assert (found["profile_error"], found["calibration"], found["seed"]) == (0.05, None, None)
    assert found["links"][0]["one_way_delay_s"] == 0.05
    assert found["links"][0]["return_delay_s"] == 0.01
    for row, written in zip(prediction.rows, found["rows"], strict=True):
        assert written["latency_s"] == row.latency_s
        assert written["stages_s"] == list(row.stages_s)
        assert written["links_s"] == list(row.links_s)
        assert written["activation_bytes"] == list(row.activation_bytes)
        assert written["memory_bytes"] == list(row.memory_bytes)
        total = sum(written["stages_s"]) + sum(written["links_s"]) + sum(written["delays_s"])
        assert written["latency_s"] == pytest.approx(total)
        assert written["on_front"] is row.on_front
    assert found["baselines"]["first_device"]["latency_s"] == pytest.approx(0.4)


def test_closed_names_its_window_and_burst_the_papers_clock(toy: Any) -> None:
    assert _read(toy, mode=Mode.named("closed", window=3))["window"] == 3
    burst = _read(toy, mode=Mode.named("burst"))
    assert burst["burst_batches"] == 8
    assert all(row["latency_from_start_s"] > 0 for row in burst["rows"])


def test_hops_name_the_entries_of_links_and_delays(toy: Any) -> None:
    found = _read(toy, source="sink")
    assert found["hops"] == ["input", "link1"]
    assert all(len(row["links_s"]) == len(row["delays_s"]) == 2 for row in found["rows"])
    assert all(len(row["activation_bytes"]) == 1 for row in found["rows"])  # forward links only


def test_an_extrapolated_batch_is_marked(toy: Any) -> None:
    assert _read(toy, batch=16)["timing_kinds"] == ["extrapolated", "extrapolated"]


def test_where_nothing_fits_recommendations_are_null_and_the_rows_stay(toy: Any) -> None:
    found = _read(toy, devices=(toy.device("one", memory_bytes=1), toy.device("two", memory_bytes=1)))
    assert {found["recommended"][key] for key in ("latency", "throughput", "knee")} == {None}
    assert [row["fits"] for row in found["rows"]] == [False] * 3
    assert found["indistinguishable"] == {"latency": None, "throughput": None}


def test_the_object_is_plain_python(toy: Any) -> None:
    def check(value: Any) -> None:
        assert value is None or type(value) in (str, int, float, bool, list, tuple, dict)
        for part in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
            check(part)

    check(as_object(predict(toy.setting(source="sink", mode=Mode.named("burst")))))


def test_the_identity_is_that_of_all_inputs(toy: Any) -> None:
    base = toy.setting()
    same = setting_identity(predict(toy.setting()))
    assert setting_identity(predict(base)) == same
    changes: list[dict[str, Any]] = [
        {"batch": 4}, {"mode": Mode.named("single")}, {"splits": "interior"}, {"source": "sink"}, {"sink": "first"},
        {"speed": 2.0}, {"control_delay_s": 1.0}, {"max_latency_s": 1.0}, {"min_throughput_per_s": 1.0},
        {"frame_rate_per_s": 1.0}, {"link": toy.link(2e6)}, {"model": msgspec.structs.replace(base.model, classes=3)},
        {"devices": (toy.device("one", memory_bytes=7), base.devices[1])},
        {"timings": (base.timings[0], toy.timing((0.2, 0.41), device="two"))},
    ]  # fmt: skip
    others = [setting_identity(predict(msgspec.structs.replace(base, **change))) for change in changes]
    assert len({same, *others}) == 1 + len(changes)


def test_csv_has_a_line_per_split_and_reads_back(toy: Any) -> None:
    prediction = predict(toy.setting(source="sink", mode=Mode.named("burst")))
    lines = list(csv.DictReader(io.StringIO(as_csv(prediction))))
    assert [int(line["split"]) for line in lines] == [0, 1, 2]
    for line, row in zip(lines, prediction.rows, strict=True):
        assert float(line["latency_s"]) == row.latency_s
        assert float(line["latency_from_start_s"]) == row.latency_from_start_s
        assert [float(line[f"stages_s[{k}]"]) for k in (1, 2)] == list(row.stages_s)
        assert [float(line[f"links_s[{k}]"]) for k in (1, 2)] == list(row.links_s)
        assert line["on_front"] == str(row.on_front).lower()
        assert int(line["memory_bytes[2]"]) == row.memory_bytes[1]
        assert None not in line.values()
