"""A stand-in for NVML's Python module, with one accelerator that is well; more are all of its name."""

from types import SimpleNamespace

GPU_NAME = "NVIDIA GeForce RTX 4090"


class FakeNvmlError(Exception):
    pass


def fake_nvml(**more):
    def refuse(*_):
        raise FakeNvmlError

    answers = {
        "NVMLError": FakeNvmlError,
        "NVML_TEMPERATURE_GPU": 0,
        "NVML_CLOCK_SM": 1,
        "nvmlClocksThrottleReasonGpuIdle": 1,
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetName": lambda handle: GPU_NAME,
        "nvmlDeviceGetUUID": lambda handle: f"GPU-{handle:08}",
        "nvmlDeviceGetUtilizationRates": lambda handle: SimpleNamespace(gpu=37),
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(used=3 * 2**30),
        "nvmlDeviceGetPowerUsage": lambda handle: 61_500,
        "nvmlDeviceGetTemperature": lambda handle, sensor: 54,
        "nvmlDeviceGetClockInfo": lambda handle, clock: 2520,
        "nvmlDeviceGetCurrentClocksThrottleReasons": lambda handle: 0x1,
    }
    return SimpleNamespace(
        **answers | {name: refuse if value is FakeNvmlError else value for name, value in more.items()}
    )
