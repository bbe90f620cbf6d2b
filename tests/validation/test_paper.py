"""`python -m validation published`: rows predicted unseen, claims with their arithmetic, and the page of them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from paretosim.calibration import SCHEMA_VERSION, Calibration
from paretosim.profiles import ProfileStore, write_profile
from paretosim.transfer_time import serialisation_s
from validation.cli import main
from validation.commands import published as command
from validation.paper.backends import assumed_rpc, compare_backends
from validation.paper.claims import OUTCOMES, Claim, paper_index
from validation.paper.evidence import Evidence
from validation.paper.rows import front_of, judge_rows, standing
from validation.paper.tables import Judgement, as_markdown
from validation.published import split_of_index

PAGE = Path(__file__).resolve().parents[2] / "docs" / "published.md"


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    return command.evidence_of(ProfileStore())


@pytest.fixture(scope="module")
def found(evidence: Evidence) -> Judgement:
    return command.judge(evidence)


def claim(found: Judgement, says: str, of: str) -> Claim:
    return next(c for c in found.claims if says in c.says and of in c.about)


def test_the_page_in_docs_is_what_the_command_prints(found: Judgement) -> None:
    assert PAGE.read_text(encoding="utf-8") == as_markdown(found), f"write it again: {PAGE.name}, see its second line"


def test_every_published_row_is_judged_and_every_outcome_is_known(evidence: Evidence, found: Judgement) -> None:
    assert [entry.row for entry in found.rows] == list(evidence.rows)
    assert len(found.rows) == 18
    assert {c.outcome for c in found.claims} <= set(OUTCOMES)
    assert all(c.arithmetic for c in found.claims)


def test_a_row_is_predicted_from_profiles_that_never_saw_it(evidence: Evidence) -> None:
    for entry in judge_rows(evidence):
        unseen = evidence.predicted(entry.row.table, entry.row.model, unseen=entry.row).row(entry.row.split)
        for stage, predicted_s in zip(entry.stages, unseen.stages_s, strict=True):
            assert predicted_s == pytest.approx(stage.left_out_s, rel=1e-4)  # the GPU's profiles keep six digits
        seen = evidence.predicted(entry.row.table, entry.row.model).row(entry.row.split)
        for stage, predicted_s in zip(entry.stages, seen.stages_s, strict=True):
            assert predicted_s == pytest.approx(stage.fitted_s, rel=1e-4)  # profiles keep six digits


def test_network_times_are_the_wire_and_the_delay(evidence: Evidence, found: Judgement) -> None:
    entry = next(e for e in found.rows if (e.row.model, e.row.index, e.row.table) == ("mobilenet_v2", 3, "pi_to_pi"))
    # 24 channels of 56 × 56 floats, batch 8; 90 bytes of headers for every 1448.
    payload = 8 * 24 * 56 * 56 * 4
    assert entry.activation_bytes == payload
    assert entry.network_s == pytest.approx((payload + 90 * math.ceil(payload / 1448)) * 8 / 1e9 + 0.0001005)
    assert entry.network_s == pytest.approx(
        float(serialisation_s(payload, evidence.link_of("pi_to_pi"))) + 0.0001005
    )  # fmt: skip


def test_splits_are_those_that_the_papers_programs_offer(evidence: Evidence) -> None:
    offered = {
        model: [row.split for row in evidence.offered(evidence.predicted("pi_to_pi", model))]
        for model in ("resnet18", "inception_v3", "alexnet")
    }
    assert offered["resnet18"] == list(range(5, 14))  # the stem's four blocks are never cut
    assert offered["inception_v3"] == [*range(1, 16), *range(17, 22)]  # nor is the auxiliary head
    assert offered["alexnet"] == list(range(1, 21))


@pytest.mark.parametrize("model", ["alexnet", "resnet18", "resnet50", "inception_v3"])
def test_the_papers_index_of_a_split_is_the_inverse_of_its_split(model: str) -> None:
    assert [paper_index(model, split_of_index(model, index)) for index in range(1, 20)] == list(range(1, 20))


def test_standing_by_hand(evidence: Evidence) -> None:
    rows = evidence.offered(evidence.predicted("pi_to_pi", "mobilenet_v2"))
    front = front_of(rows)
    assert all(standing(rows, row, 0.0) == "on the front" for row in front)
    second = next(row for row in rows if row.split == 2)  # slower than split 3 in both: 4.952 against 7.337 images/s
    assert standing(rows, second, 0.15) == "off the front"
    assert standing(rows, second, 1.0) == "near the front"


def test_named_points_hold_within_what_the_profiles_know(found: Judgement) -> None:
    assert claim(found, "highest throughput at P1", "mobilenet_v2, Pi–GPU").outcome == "holds"
    named = claim(found, "highest throughput at P3", "mobilenet_v2, Pi–Pi")
    assert named.outcome == "holds within the profiles' error"
    assert "14.0 % lost, profiles' error 15.3 %" in named.arithmetic


def test_directions_of_the_slow_link_hold_and_what_the_paper_overstates_does_not(found: Judgement) -> None:
    for of in ("Pi–Pi", "Pi–GPU"):
        assert claim(found, "shift the whole front", of).outcome == "holds"
        assert claim(found, "moves towards the first device", of).outcome == "holds"
    assert claim(found, "dominant portion", "best on the LAN").outcome == "holds"
    assert claim(found, "the same", "best on the slow link itself").outcome == "does not hold"
    assert claim(found, "especially for larger", "").outcome == "does not hold"


def test_the_residual_networks_asymmetry_is_said_to_be_one_of_the_index(found: Judgement) -> None:
    for model in ("resnet18", "resnet50"):
        judged = claim(found, "asymmetric", model)
        assert judged.outcome == "holds"
        assert "the asymmetry is one of the index" in judged.arithmetic


def test_rpc_costs_more_like_for_like_and_its_terms_are_named(evidence: Evidence, found: Judgement) -> None:
    ahead = claim(found, "sockets beat RPC", "")
    assert ahead.outcome == "holds"
    assert "RPC terms assumed" in ahead.about
    like, dispatched, _ = found.backends
    assert like.more_throughput > 0
    # The clock changes nothing about a period.
    assert dispatched.more_throughput == pytest.approx(like.more_throughput)
    assert dispatched.less_latency > like.less_latency
    assert like.missing_s == pytest.approx(1.53 * like.sockets.period_s - like.rpc.period_s)


def test_dearer_rpc_falls_farther_behind(evidence: Evidence) -> None:
    cheap = assumed_rpc(evidence)
    dear = Calibration(
        schema_version=SCHEMA_VERSION, name="dear", backend="rpc", rpc_round_trips=2.0, rpc_s=0.25, relay=cheap.relay
    )  # fmt: skip
    for one, other in zip(compare_backends(evidence, cheap), compare_backends(evidence, dear), strict=True):
        assert other.less_latency > one.less_latency
        assert other.more_throughput > one.more_throughput


def test_the_command_prints_tables_and_json(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "reconstruct", lambda models, rows: evidence.reconstruction)
    assert main(["published"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Of ")
    assert sum("does not hold" in line for line in lines) >= 3
    assert main(["published", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert len(shown["rows"]) == 18
    assert shown["verdict"] == lines[0]
    assert shown["rpc_terms"]["name"] == "assumed"


def test_a_calibration_of_another_backend_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.json"
    write_profile(path, Calibration(schema_version=SCHEMA_VERSION, name="mine", backend="tcp"))
    assert main(["published", "--calibration", str(path)]) == 2
    assert "mine is of backend tcp, expected one of rpc" in capsys.readouterr().err
