"""`python -m validation published`: the paper's tables and claims against predictions, with the arithmetic."""

from __future__ import annotations

import argparse
import importlib.util
import sys

from paretosim.calibration import Calibration
from paretosim.command_line import DONE
from paretosim.errors import BadInputError
from paretosim.indented_json import indented_json
from paretosim.profiles import ProfileStore, shipped_directory
from validation.errors import MissingExtraError
from validation.paper.backends import assumed_rpc, compare_backends, judge_backends
from validation.paper.claims import judge_claims
from validation.paper.evidence import Evidence
from validation.paper.rows import judge_rows
from validation.paper.tables import Judgement, as_json, as_markdown, tables_of
from validation.published import read_published
from validation.reconstruct import Reconstruction, reconstruct


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `python -m validation published`."""
    parser.add_argument(
        "--calibration",
        metavar="FILE",
        help="terms of RPC: a file of backend rpc, or the name of a shipped one (default: assumed terms)",
    )
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="print all of it as one JSON object")
    shown.add_argument("--markdown", action="store_true", help="print the page docs/published.md")


def run(arguments: argparse.Namespace) -> int:
    """Reconstruct, predict, judge and print."""
    if importlib.util.find_spec("scipy") is None:
        raise MissingExtraError(
            "published: fitting needs scipy, which is not installed; pip install 'paretosim[report]'"
        )  # fmt: skip
    store = ProfileStore()
    rpc = None if arguments.calibration is None else _rpc_of(store.calibration(arguments.calibration))
    evidence = evidence_of(store)
    found = judge(evidence, rpc)
    if arguments.json:
        sys.stdout.write(indented_json(as_json(found)).decode())
    elif arguments.markdown:
        sys.stdout.write(as_markdown(found))
    else:
        _show(found)
    return DONE


def _rpc_of(calibration: Calibration) -> Calibration:
    if calibration.backend != "rpc":
        raise BadInputError(
            f"--calibration: {calibration.name} is of backend {calibration.backend}, expected one of rpc: it says what"
            f" RPC"
            " costs beside the paper's sockets"
        )
    return calibration


def evidence_of(store: ProfileStore, reconstruction: Reconstruction | None = None) -> Evidence:
    """The shipped tables, models and links, and the fit to them (made now where none is given)."""
    models = {name: store.model(name) for name in store.names("models")}
    rows = read_published(
        shipped_directory() / "published", {name: len(model.blocks) for name, model in models.items()}
    )
    models = {name: model for name, model in models.items() if any(row.model == name for row in rows)}
    links = {"pi_to_pi": "paper-lan-pi-pi", "pi_to_gpu": "paper-lan-pi-gpu", "duress": "paper-duress"}
    return Evidence(
        models=models,
        rows=rows,
        reconstruction=reconstruct(models, rows) if reconstruction is None else reconstruction,
        links={name: store.link(link) for name, link in links.items()},
    )


def judge(evidence: Evidence, rpc: Calibration | None = None) -> Judgement:
    """Everything at once; RPC by assumed terms where none are given."""
    terms = assumed_rpc(evidence) if rpc is None else rpc
    backends = compare_backends(evidence, terms)
    return Judgement(
        rows=judge_rows(evidence),
        claims=(*judge_claims(evidence), *judge_backends(backends, terms)),
        backends=backends,
        rpc=terms,
        contradictions=evidence.reconstruction.contradictions,
    )


def _show(found: Judgement) -> None:
    from rich.text import Text

    from validation.report.terminal import console_for_tables, print_table

    console = console_for_tables()
    console.print(Text(found.verdict, style="bold"), soft_wrap=not console.is_terminal)
    for table in tables_of(found):
        print_table(console, table, elsewhere="docs/published.md")
