"""What is found in the facts of a Pi, a laptop and a container; gathering, from files of each; and the command."""

from __future__ import annotations

import gzip
import json
import platform
import sys
from pathlib import Path

import msgspec
import pytest

from hwrun.cli import main
from hwrun.commands import doctor
from hwrun.commands.doctor import described, diagnose
from hwrun.doctor.checks import Finding, Purpose, findings
from hwrun.doctor.facts import Busy, HostFacts, Interface
from hwrun.doctor.gathering import gather, modules
from hwrun.records import GpuSample
from tests.hwrun.fake_nvml import fake_nvml
from tests.hwrun.test_worker import RunningWorker

GIB = 2**30
SOUND_TCP = {
    "net.ipv4.tcp_congestion_control": "cubic",
    "net.ipv4.tcp_no_metrics_save": "1",
    "net.ipv4.tcp_slow_start_after_idle": "0",
    "net.ipv4.tcp_rmem": "4096 131072 6291456",
    "net.ipv4.tcp_wmem": "4096 16384 4194304",
}
PACKAGES: dict[str, str | None] = dict.fromkeys(("torch", "psutil"), "1.0")
SOUND_PI = HostFacts(
    hostname="pi-a",
    machine="aarch64",
    cpu_model="Raspberry Pi 4 Model B Rev 1.5",
    kernel="6.12.25+rpt-rpi-v8",
    python="3.13.5",
    hwrun="/home/pi/paretosim/.venv/bin/hwrun",
    cores=4,
    governors={"performance": 4},
    throttled=False,
    throttled_flags="0x0",
    temperature_c=48.3,
    memory_bytes=4 * GIB,
    memory_available_bytes=3 * GIB,
    clocksource="arch_sys_counter",
    clock_synchronised=True,
    sleep_lateness_s=90e-6,
    may_shape=True,
    may_realtime=True,
    namespaces="userns",
    modules={"sch_netem": True, "sch_htb": True, "cls_u32": True},
    interfaces=(Interface(name="eth0", speed_bps=1e9),),
    sysctls=SOUND_TCP,
    packages=PACKAGES,
)
# As a Pi comes from the shop: on-demand clock, weak supply, Wi-Fi, desktop, the distribution's TCP.
FRESH_PI = msgspec.structs.replace(
    SOUND_PI,
    governors={"ondemand": 4},
    throttled=True,
    throttled_flags="0x50005",
    temperature_c=82.0,
    memory_available_bytes=700_000_000,
    swap_used_bytes=100 * 2**20,
    may_shape=False,
    may_realtime=False,
    busy=(Busy(pid=812, name="labwc", share=0.31), Busy(pid=77, name="kworker", share=0.03)),
    interfaces=(Interface(name="wlan0", is_wireless=True, segments=True),),
    sysctls=SOUND_TCP | {"net.ipv4.tcp_no_metrics_save": "0", "net.ipv4.tcp_slow_start_after_idle": "1"},
)
LAPTOP = HostFacts(
    hostname="laptop",
    machine="x86_64",
    cpu_model="AMD Ryzen 7 7840U",
    kernel="6.14.0-generic",
    python="3.12.3",
    cores=16,
    governors={"powersave": 16},
    throttle_count=12,
    memory_bytes=32 * GIB,
    memory_available_bytes=20 * GIB,
    clocksource="hpet",
    clock_synchronised=True,
    sleep_lateness_s=5.1e-3,
    namespaces="none",
    namespaces_reason="network namespaces are not permitted here",
    namespaces_remedy="sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
    modules={"sch_netem": False, "sch_htb": True, "cls_u32": True},
    interfaces=(Interface(name="eth0", segments=True, root="qdisc cake 8001:", shaped_by=None),),
    sysctls=SOUND_TCP | {"net.ipv4.tcp_congestion_control": "bbr", "kernel.sched_autogroup_enabled": "1"},
    packages=PACKAGES | {"pyroute2": None},
)
CONTAINER = HostFacts(
    hostname="box",
    machine="x86_64",
    kernel="6.8.0",
    python="3.11.9",
    cores=2,
    is_virtual=True,
    steal_share=0.08,
    memory_bytes=4 * GIB,
    memory_available_bytes=3 * GIB,
    clocksource="kvm-clock",
    clock_synchronised=None,
    sleep_lateness_s=200e-6,
    may_realtime=True,
    may_shape=True,
    namespaces="root",
    modules=dict.fromkeys(("sch_netem", "sch_htb", "cls_u32")),
    sysctls={"net.ipv4.tcp_rmem": "4096 87380 1048576"},
    packages=PACKAGES,
)


def found(facts: HostFacts, purpose: Purpose = "testbed") -> dict[str, Finding]:
    return {finding.check: finding for finding in findings(facts, purpose)}


def spoiling(facts: HostFacts, purpose: str = "testbed") -> set[str]:
    return {check for check, finding in found(facts, purpose).items() if finding.spoils}


def test_a_pi_that_is_set_up_has_nothing_to_say() -> None:
    assert findings(SOUND_PI, "testbed") == ()
    assert findings(SOUND_PI, "local") == ()
    assert diagnose(SOUND_PI, "testbed").is_sound


def test_a_pi_from_the_shop_has_much_to_say_and_how_to_mend_each() -> None:
    assert spoiling(FRESH_PI) == {
        "governor", "throttling", "temperature", "load", "memory", "swap", "wireless", "tcp_no_metrics_save",
        "tcp_slow_start_after_idle",
    }  # fmt: skip
    said = found(FRESH_PI)
    assert said["governor"].what == "frequency governor ondemand on 4 of 4 cores, expected performance"
    assert said["governor"].fix.startswith("echo performance | sudo tee /sys/devices/system/cpu/")
    assert said["throttling"].what == "held back now: under-voltage, throttled"
    assert said["load"].what == "other processes use 31% of a core: labwc (812) 31%"  # 3 % do not count
    assert said["memory"].what.startswith("700.0 MB of 4.3 GB available")
    assert said["wireless"].fix.startswith("use a cable")
    assert said["tcp_slow_start_after_idle"].fix == (
        "sudo sysctl -w net.ipv4.tcp_slow_start_after_idle=0; to keep it: echo"
        " net.ipv4.tcp_slow_start_after_idle=0 | sudo tee -a /etc/sysctl.d/90-hwrun.conf"
    )
    assert {"net_admin", "realtime", "offloads"} <= said.keys() - spoiling(FRESH_PI)
    assert said["net_admin"].fix.startswith("sudo /home/pi/paretosim/.venv/bin/hwrun shape …; for a worker: Ambient")


def test_a_pi_that_was_held_back_once_says_so_after_it_has_recovered() -> None:
    facts = msgspec.structs.replace(SOUND_PI, throttled_flags="0x50000")
    assert found(facts)["throttling"].what == "held back since boot: under-voltage, throttled"


def test_a_laptop() -> None:
    assert spoiling(LAPTOP) == {"governor", "clocksource", "tcp_congestion_control", "qdisc", "packages"}
    assert spoiling(LAPTOP, "local") == {"governor", "clocksource", "namespaces", "packages", "timers"}
    said = found(LAPTOP)
    assert said["netem"].what == "this kernel (6.14.0-generic) has no sch_netem"
    assert "linux-modules-extra-6.14.0-generic" in said["netem"].fix
    assert "net_admin" not in said  # what it may not shape with is not there anyway
    assert said["qdisc"].what == "eth0 has qdisc cake 8001:, which somebody set"
    assert said["namespaces"].fix == "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    assert said["timers"].what == "one sleep in a hundred ends 5.1ms late or later"
    assert ("see realtime" in said["timers"].fix) == ("realtime" in said)
    assert said["packages"].what == "missing: pyroute2"
    assert "12 times" in said["throttling"].what
    assert "sysctl -w kernel.sched_autogroup_enabled=0" in said["autogroup"].fix
    assert "autogroup" not in found(SOUND_PI)


def test_a_container_that_shares_its_cores() -> None:
    assert spoiling(CONTAINER, "local") == {"steal", "tcp_rmem"}
    said = found(CONTAINER, "local")
    assert said["steal"].what == "a hypervisor gave 8.0% of a core to others"
    assert said["tcp_rmem"].fix.startswith('sudo sysctl -w "net.ipv4.tcp_rmem=4096 87380 6291456"')
    assert not said.keys() & {"netem", "governor", "throttling", "ntp"}  # it does not tell, so nothing is said


def test_an_interface_that_is_being_shaped_is_named_with_how_to_clear_it() -> None:
    facts = msgspec.structs.replace(SOUND_PI, interfaces=(Interface(name="eth0", shaped_by=4711),))
    assert found(facts)["shaped"].what == "eth0 is being shaped by process 4711"
    assert found(facts)["shaped"].fix == "sudo /home/pi/paretosim/.venv/bin/hwrun shape --clear --interface eth0"


def test_a_setting_that_was_left_behind_spoils_and_is_named_with_how_to_clear_it() -> None:
    facts = msgspec.structs.replace(
        SOUND_PI, interfaces=(Interface(name="eth0", left_behind="qdisc htb 4857: with netem below it"),)
    )
    assert spoiling(facts) == {"shaped"}
    assert found(facts)["shaped"].what.startswith("eth0 has qdisc htb 4857: with netem below it, which hwrun shape or")
    assert found(facts)["shaped"].fix == "sudo /home/pi/paretosim/.venv/bin/hwrun shape --clear --interface eth0"


def test_a_gpu_that_heat_or_power_holds_back_spoils_and_one_whose_clock_was_set_is_to_be_known() -> None:
    gpu = GpuSample(name="RTX 4090", index=1, power_w=449.7, temperature_c=88.0, frequency_hz=1.2e9, held_back=False)
    assert findings(msgspec.structs.replace(SOUND_PI, gpus=(gpu,)), "testbed") == ()
    hot = msgspec.structs.replace(gpu, held_back=True, held_back_by=("its power limit", "heat"))
    facts = msgspec.structs.replace(SOUND_PI, gpus=(hot,))
    assert spoiling(facts) == spoiling(facts, "local") == {"gpu"}
    assert found(facts)["gpu"].what == "GPU 1 (RTX 4090) is held back by its power limit, heat (1200 MHz, 88 °C, 450 W)"
    capped = msgspec.structs.replace(gpu, held_back=True, power_w=None)
    (finding,) = findings(msgspec.structs.replace(SOUND_PI, gpus=(capped,)), "testbed")
    assert (finding.spoils, finding.what) == (
        False,
        "GPU 1 (RTX 4090) runs at a clock that somebody set (1200 MHz, 88 °C)",
    )
    assert "--reset-gpu-clocks" in finding.fix


def test_the_gpus_of_a_host_are_among_its_facts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(nvmlDeviceGetCurrentClocksThrottleReasons=lambda handle: 0x40))
    (gpu,) = gather(0.01, tmp_path, {}.get).gpus
    assert (gpu.name, gpu.held_back_by) == ("NVIDIA GeForce RTX 4090", ("heat (hardware)",))


@pytest.mark.parametrize("facts", [FRESH_PI, LAPTOP, CONTAINER])
@pytest.mark.parametrize("purpose", ["local", "testbed"])
def test_every_finding_says_what_why_and_how_and_what_spoils_comes_first(facts: HostFacts, purpose: Purpose) -> None:
    listed = findings(facts, purpose)
    assert all(finding.what and finding.why and finding.fix for finding in listed)
    assert [finding.spoils for finding in listed] == sorted((finding.spoils for finding in listed), reverse=True)


def test_facts_cross_the_wire() -> None:
    assert msgspec.json.decode(msgspec.json.encode(FRESH_PI), type=HostFacts) == FRESH_PI


def test_a_host_that_is_no_linux_is_called_what_it_is() -> None:
    mac = msgspec.structs.replace(SOUND_PI, system="Darwin", kernel="25.1.0")
    assert "4 cores, Darwin 25.1.0, Python" in described(diagnose(mac, "testbed"))[0]


def test_a_host_is_described_in_lines() -> None:
    assert described(diagnose(SOUND_PI, "testbed")) == [
        "pi-a: Raspberry Pi 4 Model B Rev 1.5, 4 cores, Linux 6.12.25+rpt-rpi-v8, Python 3.13.5",
        "  nothing here will spoil a measurement",
    ]
    lines = described(diagnose(CONTAINER, "local"))
    assert lines[1:4] == [
        "  ✗ steal: a hypervisor gave 8.0% of a core to others",
        "      a stage is stopped at moments that nothing here can see",
        "      fix: measure on a machine of your own, or on a virtual one with cores of its own (dedicated, pinned)",
    ]
    assert lines[-1] == "  ✗ 2 of these will spoil a measurement"


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_facts_of_a_pi_are_read_from_its_files_and_firmware(tmp_path: Path) -> None:
    write(tmp_path, "proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.5\0")
    write(tmp_path, "proc/loadavg", "0.52 0.4 0.3 1/200 999")
    write(tmp_path, "proc/self/status", "Name:\tx\nCapEff:\t0000000000001000\n")
    write(tmp_path, "sys/devices/system/clocksource/clocksource0/current_clocksource", "arch_sys_counter\n")
    write(tmp_path, "proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456\n")
    for core in range(256):
        write(tmp_path, f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor", "ondemand\n")
    answers = {"get_throttled": "throttled=0x50005", "measure_temp": "temp=61.3'C"}
    facts = gather(0.01, tmp_path, answers.get)
    assert "Raspberry Pi" in (facts.cpu_model or "")
    assert (facts.throttled, facts.throttled_flags, facts.temperature_c) == (True, "0x50005", 61.3)
    assert set(facts.governors) == {"ondemand"}
    assert (facts.load_1min, facts.clocksource) == (0.52, "arch_sys_counter")
    assert facts.may_shape  # bit 12 alone
    assert facts.sysctls == {"net.ipv4.tcp_rmem": "4096 131072 6291456"}
    assert Path(facts.hwrun.split()[0]).is_absolute()
    assert facts.sleep_lateness_s is not None
    assert facts.sleep_lateness_s > 0


def test_a_kernels_modules_are_found_loaded_installed_or_built_in_and_else_unknown(tmp_path: Path) -> None:
    assert modules(tmp_path) == dict.fromkeys(("sch_netem", "sch_htb", "cls_u32"))
    folder = f"lib/modules/{platform.release()}"
    write(tmp_path, f"{folder}/modules.dep", "kernel/net/sched/sch_netem.ko.xz:\n")
    write(tmp_path, f"{folder}/modules.builtin", "kernel/net/sched/cls_u32.ko\n")
    assert modules(tmp_path) == {"sch_netem": True, "sch_htb": False, "cls_u32": True}
    (tmp_path / "sys/module/sch_htb").mkdir(parents=True)
    assert modules(tmp_path)["sch_htb"] is True


def test_a_kernel_without_installed_modules_has_what_is_built_in(tmp_path: Path) -> None:
    write(tmp_path, "proc/none", "")
    text = b"CONFIG_NET_SCH_HTB=y\n# CONFIG_NET_SCH_NETEM is not set\nCONFIG_NET_CLS_U32=m\n"
    (tmp_path / "proc/config.gz").write_bytes(gzip.compress(text))
    assert modules(tmp_path) == {"sch_netem": False, "sch_htb": True, "cls_u32": False}


def test_this_host_is_judged_with_an_exit_code_that_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for facts, code in ((SOUND_PI, 0), (FRESH_PI, 1)):
        monkeypatch.setattr("hwrun.doctor.gathering.gather", lambda facts=facts: facts)
        assert main(["doctor", "--json"]) == code
        shown = json.loads(capsys.readouterr().out)
        assert (shown["schema_version"], shown["sound"]) == (1, code == 0)
        assert shown["hosts"][0]["facts"]["hostname"] == "pi-a"
        assert bool(shown["hosts"][0]["findings"]) == bool(code)
        assert main(["doctor"]) == code
        assert capsys.readouterr().out.startswith("pi-a: Raspberry Pi 4")


def test_a_worker_tells_the_facts_of_its_host_and_one_that_is_gone_is_told(tmp_path: Path) -> None:
    from hwrun.remote.lab_file import LabHost
    from tests.hwrun.test_worker import CREDENTIALS

    worker = RunningWorker(tmp_path)
    host = LabHost(name="h1", address=worker.control.host, device="x86-core", control_port=worker.control.port)
    diagnosis = doctor._ask(host, CREDENTIALS)
    worker.stop()
    assert diagnosis.facts is not None
    assert (diagnosis.host, diagnosis.facts.kernel) == ("h1", platform.release())
    gone = doctor._ask(host, CREDENTIALS)
    assert gone.facts is None
    assert not gone.is_sound
    assert described(gone)[0].startswith("h1: not reached: ")
