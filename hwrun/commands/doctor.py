"""`hwrun doctor`: what on this host, or on every host of a testbed, will spoil a measurement, and how to mend it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from hwrun.doctor.checks import Finding, Purpose, findings
from hwrun.doctor.facts import HostFacts
from hwrun.errors import HwrunError
from paretosim.command_line import DONE, FAILED
from paretosim.indented_json import indented_json

if TYPE_CHECKING:
    from hwrun.remote.lab_file import Lab, LabHost
    from hwrun.wire.admission import Credentials

_AT_ONCE = 16
_START_IT = "hwrun up, which starts its worker, or says what about the one that runs is otherwise"
SCHEMA_VERSION = 1


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """One host: its facts and what was found in them; without facts, why it was not reached and what to do."""

    host: str
    facts: HostFacts | None
    findings: tuple[Finding, ...] = ()
    unreached: str | None = None
    fix: str | None = None

    @property
    def is_sound(self) -> bool:
        """Whether nothing spoils a measurement there."""
        return self.facts is not None and not any(finding.spoils for finding in self.findings)


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `hwrun doctor`."""
    parser.epilog = "Exit code 0: nothing spoils a measurement; 1: something does."
    parser.add_argument(
        "--testbed",
        type=Path,
        metavar="FILE",
        help="ask every worker of this testbed file about its host, and judge them as hosts of a testbed; without it,"
        " this host is judged as the local testbed",
    )
    parser.add_argument("--json", action="store_true", help="print one object with all facts and findings")


def run(arguments: argparse.Namespace) -> int:
    """Gather, judge, show."""
    diagnoses = _this_host() if arguments.testbed is None else _hosts_of(arguments.testbed)
    if arguments.json:
        shown = {"schema_version": SCHEMA_VERSION, "sound": _sound(diagnoses), "hosts": diagnoses}
        sys.stdout.write(indented_json(shown).decode())
    else:
        print("\n".join(line for diagnosis in diagnoses for line in described(diagnosis)))
    return DONE if _sound(diagnoses) else FAILED


def _sound(diagnoses: Sequence[Diagnosis]) -> bool:
    return all(diagnosis.is_sound for diagnosis in diagnoses)


def _this_host() -> tuple[Diagnosis, ...]:
    from hwrun.doctor.gathering import gather

    return (diagnose(gather(), "local"),)


def _hosts_of(file: Path) -> tuple[Diagnosis, ...]:
    from hwrun.remote.fleet import credentials_of
    from hwrun.remote.lab_file import read_lab

    lab = read_lab(file)
    credentials = credentials_of(lab)
    return _each(lab, credentials)


def _each(lab: Lab, credentials: Credentials) -> tuple[Diagnosis, ...]:
    with ThreadPoolExecutor(max_workers=min(_AT_ONCE, len(lab.hosts))) as threads:
        return tuple(threads.map(lambda host: _ask(host, credentials), lab.hosts))


def _ask(host: LabHost, credentials: Credentials) -> Diagnosis:
    from hwrun.wire import control
    from hwrun.wire.control import WorkerBusyError
    from hwrun.worker_client import WorkerClient

    try:
        client = WorkerClient.dial(host.name, host.control, credentials)
        try:
            facts = client.request(control.AskFacts(), control.Facts).facts
        finally:
            client.close()
    except WorkerBusyError as error:
        return Diagnosis(host=host.name, facts=None, unreached=str(error), fix="ask again when that is done")
    except HwrunError as error:
        return Diagnosis(host=host.name, facts=None, unreached=str(error), fix=_START_IT)
    return diagnose(facts, "testbed", host.name)


def diagnose(facts: HostFacts, purpose: Purpose, host: str | None = None) -> Diagnosis:
    """What is found in facts."""
    return Diagnosis(host=host or facts.hostname, facts=facts, findings=findings(facts, purpose))


def described(diagnosis: Diagnosis) -> list[str]:
    """Lines for a person: the host, each finding with why and how to mend it, and the sum."""
    facts = diagnosis.facts
    if facts is None:
        return [
            f"{diagnosis.host}: not reached: {diagnosis.unreached}",
            f"  fix: {diagnosis.fix}",
        ]
    lines = [
        f"{diagnosis.host}: {facts.cpu_model or facts.machine}, {facts.cores} cores, {facts.system} {facts.kernel},"
        f" Python {facts.python}"
    ]
    for finding in diagnosis.findings:
        mark = "✗" if finding.spoils else "·"
        lines += [f"  {mark} {finding.check}: {finding.what}", f"      {finding.why}", f"      fix: {finding.fix}"]
    spoiling = sum(finding.spoils for finding in diagnosis.findings)
    notes = len(diagnosis.findings) - spoiling
    judged = f"✗ {spoiling} of these will spoil a measurement" if spoiling else "nothing here will spoil a measurement"
    lines.append(f"  {judged}{f'; · {notes} to know of' if notes else ''}")
    return lines
