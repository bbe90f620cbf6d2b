"""The shaping of a real device against a real netem: a user-mode Linux kernel, started here as an ordinary process."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from tests.hwrun.user_mode_linux import INSTALL, GuestUnusableError, missing_programs, run_in_guest

pytestmark = pytest.mark.timed
GUEST = Path(__file__).with_name("shaping_guest.py")
# It takes ten seconds on a quiet machine.
LIMIT_S = 120.0


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the guest measured."""
    if missing := missing_programs():
        pytest.skip(f"no {', '.join(missing)}: {INSTALL}")
    try:
        return run_in_guest(GUEST, tmp_path_factory.mktemp("uml"), limit_s=LIMIT_S)
    except GuestUnusableError as error:
        pytest.skip(f"user-mode Linux runs no process on this host's processor: {str(error).splitlines()[0]}")


def test_what_is_set_by_netlink_is_read_back_and_tc_shows_the_same(found: dict[str, Any]) -> None:
    assert found["read_back"]
    assert "qdisc netem 4867: parent 4857:1 limit 8690 delay 40ms rate 20Mbit" in found["tc"]


def test_a_transfer_takes_the_rate_and_the_delay(found: dict[str, Any]) -> None:
    segments = math.ceil(500_000 / 1448)
    expected_s = (500_000 + 66 * segments) * 8 / 20e6 + 0.040
    assert expected_s * 0.995 < found["shaped"]["data_one_way_s"] < expected_s * 1.05 + 0.02
    assert 0.040 <= found["shaped"]["data_rtt_s"] < 0.050


def test_the_control_port_of_the_same_peer_is_not_shaped(found: dict[str, Any]) -> None:
    assert found["shaped"]["control_rtt_s"] < 0.010
    assert found["shaped"]["control_one_way_s"] < 0.100  # at 20 Mbit/s it would be 0.209


def test_removed_it_is_as_before(found: dict[str, Any]) -> None:
    assert found["default_again"]
    assert found["unshaped"]["data_one_way_s"] < 0.100
    assert found["unshaped"]["data_rtt_s"] < 0.010


def test_the_lines_of_a_dry_run_make_that_setting_when_typed(found: dict[str, Any]) -> None:
    assert found["typed_complaints"] == []
    assert found["typed_problem"] is None
    assert found["typed_read_back"]


def test_jitter_and_loss_are_as_asked(found: dict[str, Any]) -> None:
    # 300 datagrams, a quarter lost: five standard deviations of a binomial either way.
    assert abs(found["arrived"] - 225) < 5 * math.sqrt(300 * 0.25 * 0.75)
    # Uniform over 20 to 40 ms: tenths at 22, 30 and 38, to five times their own standard errors over 150 or more, and
    # what waking a process on a busy machine adds.
    least_s, low_s, middle_s, high_s = found["delays_s"]
    assert 0.020 <= least_s < 0.022
    assert 0.020 <= low_s < 0.027
    assert 0.026 < middle_s < 0.038
    assert 0.035 < high_s < 0.050


def test_with_a_rate_jitter_lets_no_packet_overtake_as_the_relay_has_it(found: dict[str, Any]) -> None:
    assert found["in_order"]


def test_a_queue_builds_before_netems_rate_and_hardly_one_before_htbs(found: dict[str, Any]) -> None:
    assert found["netem_waiting"] > 2 * found["htb_waiting"]


def test_an_owner_killed_with_9_leaves_no_qdisc(found: dict[str, Any]) -> None:
    assert found["held"]
    assert found["gone_after_kill"]
