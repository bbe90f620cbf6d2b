"""What holds a processor back: by a stand-in for a Raspberry Pi's vcgencmd, and one for the kernel's /sys."""

import os

import pytest

from hwrun.machine.clock_state import FirmwareWatch, ask_vcgencmd, clock_state, held_back

ANSWERS = {
    "get_throttled": "throttled=0x50005",
    "measure_temp": "temp=81.8'C",
    "measure_clock arm": "frequency(48)=600117184",
}


@pytest.fixture
def vcgencmd_on_path(tmp_path, monkeypatch):
    """A command that answers as a hot Raspberry Pi 4 with a weak supply does."""
    cases = "\n".join(f'"{question}") echo "{answer}" ;;' for question, answer in ANSWERS.items())
    command = tmp_path / "bin" / "vcgencmd"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\ncase "$*" in\n{cases}\n*) echo "error=1"; exit 1 ;;\nesac\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")


def written(root, **files):
    for name, text in files.items():
        path = (
            root
            / {
                "frequency": "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq",
                "temperature": "sys/class/thermal/thermal_zone0/temp",
                "count0": "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count",
                "count1": "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count",
                "flags": "sys/devices/platform/soc/soc:firmware/get_throttled",
                "cpuinfo": "proc/cpuinfo",
            }[name]
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_a_raspberry_pi_is_asked_for_the_clock_it_really_has(vcgencmd_on_path, tmp_path):
    # The kernel still shows the frequency that it asked for.
    found = clock_state(0, written(tmp_path, frequency="1500000\n"))
    assert found == {
        "frequency_hz": 600117184.0,
        "temperature_c": 81.8,
        "throttled": True,
        "throttled_flags": "0x50005",
        "throttle_count": None,
    }


def test_a_question_that_vcgencmd_does_not_know_is_no_answer(vcgencmd_on_path):
    assert ask_vcgencmd("measure_nothing") is None


def test_without_vcgencmd_the_kernel_says_what_it_knows(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert set(clock_state(0, tmp_path / "nothing").values()) == {None}
    system = written(tmp_path, frequency="1800000\n", temperature="48312\n", count0="3\n", count1="4\n")
    assert clock_state(0, system) == {
        "frequency_hz": 1.8e9,
        "temperature_c": pytest.approx(48.312),
        "throttled": None,
        "throttled_flags": None,
        "throttle_count": 7,
    }


@pytest.mark.parametrize(
    ("answer", "expected"),
    [("throttled=0x0", False), ("throttled=0x50000", False), ("throttled=0x4", True), ("error", None), (None, None)],
)
def test_only_present_throttling_is_throttled(tmp_path, answer, expected):
    assert clock_state(0, tmp_path, lambda question: answer)["throttled"] is expected


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("0x0", "0x0", []),
        ("0x50000", "0x50000", []),  # it happened, but long ago
        ("0x5", "0x50005", ["under-voltage, before and after", "throttled, before and after"]),
        ("0x0", "0x80008", ["soft temperature limit, after"]),
        ("0x0", "0x20000", ["frequency capped, in between"]),
        (None, None, []),
    ],
)
def test_what_was_held_back_is_named_with_when(before, after, expected):
    assert held_back({"throttled_flags": before}, {"throttled_flags": after}) == expected


def test_a_count_that_rose_means_that_cores_were_throttled_in_between():
    assert held_back({"throttle_count": 3}, {"throttle_count": 3}) == []
    assert held_back({"throttle_count": 3}, {"throttle_count": 5}) == [
        "the kernel saw cores throttled 2 times in between"
    ]


def test_what_happened_again_since_boot_is_named_by_who_looked_meanwhile():
    # Throttled once before and once meanwhile, and the firmware says the same before and after.
    state = {"throttled_flags": "0x50000"}
    assert held_back(state, state) == []
    assert held_back(state, state, {"throttled"}) == ["throttled, in between"]
    assert held_back({"throttled_flags": "0x50005"}, state, ("throttled",)) == [
        "under-voltage, before", "throttled, before"
    ]  # fmt: skip


def test_the_firmware_is_asked_once_a_second_for_what_is_at_work_now(tmp_path):
    asked, answers = [], iter(["throttled=0x50000", "throttled=0x5000c", "error", None])

    def firmware(question):
        asked.append(question)
        return next(answers)

    moments_s = (50.0, 50.9, 51.0, 51.5, 52.0, 53.0)
    watch = FirmwareWatch(tmp_path, firmware, iter(moments_s).__next__)
    assert [watch.look() for _ in moments_s] == [(), (), ("throttled", "soft temperature limit"), (), (), ()]
    assert asked == ["get_throttled"] * 4


def test_a_kernel_that_passes_the_answer_on_spares_the_process(tmp_path):
    def firmware(question):
        raise AssertionError("a process was started")

    assert FirmwareWatch(written(tmp_path, flags="50005\n"), firmware).look() == ("under-voltage", "throttled")
