"""The soak's verdict: it sees a leak under noise, and no leak where there is none."""

import random

import pytest

from tests.soak.growth import Sample, growths


def run(**leaks_per_hour):
    noise = random.Random(1)
    return [
        Sample(
            time_s=100 + 30.0 * number,
            process=process,
            batches=number,
            rss_bytes=int(3e8 + noise.uniform(0, 8e6) + leaks_per_hour.get("rss", 0) * number / 120),
            kernel_tcp_bytes=int(noise.uniform(0, 4e6)),
            threads=9 + (number % 7 == 0) + int(leaks_per_hour.get("threads", 0) * number / 120),
            descriptors=20,
            sockets=4,
        )
        for number in range(60)
        for process in ("A", "B")
    ]


def test_what_only_breathes_holds():
    assert all(growth.holds for growth in growths(run()))


@pytest.mark.parametrize(("leak", "figure"), [({"rss": 2e8}, "rss_bytes"), ({"threads": 8}, "threads")])
def test_a_leak_is_seen_under_the_noise(leak, figure):
    assert {growth.figure for growth in growths(run(**leak)) if not growth.holds} == {figure}


def test_too_short_a_run_says_so():
    with pytest.raises(ValueError, match="run longer"):
        growths(run()[:12])
