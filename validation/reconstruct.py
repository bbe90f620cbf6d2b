"""Device profiles `rpi4b` and `rtx4090`, made from nothing but published figures.

The Pi's block times are a regularised law (`device_law`), the 4090's an evenly spread overhead
(`overhead_bound`). Each timing carries as its error what predicting that model's published stages without their
row got wrong, never what the fit to them did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from paretosim.block import Model
from paretosim.device import Device
from paretosim.timing import BatchTiming, BlockTiming, Timing, TimingError
from validation.block_work import model_work, work_matrix
from validation.contradictions import Contradiction, find_contradictions
from validation.device_law import Floats
from validation.left_out import JudgedFit, StageFit, fit_and_judge, median_error
from validation.overhead_bound import judge_overhead, spread_overhead
from validation.published import PUBLISHED_BATCH, PublishedRow, stage_times

PI, GPU = "rpi4b", "rtx4090"
COMMAND = "python -m validation reconstruct"
# Times differ in the last bits between machines' linear algebra; six digits of a published three do not.
_SIGNIFICANT_DIGITS = 6

_PI_MEMORY_BYTES = 4 * 2**30 - 76 * 2**20
_MEBIBYTE = 2**20


@dataclass(frozen=True)
class Reconstruction:
    """Everything that the command shows and writes. `stages` holds the Pi's and the GPU's, in table order."""

    judged: JudgedFit
    stages: tuple[StageFit, ...]
    contradictions: tuple[Contradiction, ...]
    devices: tuple[Device, ...]
    timings: tuple[Timing, ...]

    def stages_of(self, device: str, model: str | None = None) -> tuple[StageFit, ...]:
        """Stages that ran on `device`, of one model or of all."""
        return tuple(s for s in self.stages if s.time.device == device and model in (None, s.time.model))

    def headline_error(self, device: str) -> float:
        """Median left-out error over every published stage time of that device, contradictory ones included."""
        return median_error(stage.left_out_error for stage in self.stages_of(device))


def reconstruct(models: Mapping[str, Model], rows: Sequence[PublishedRow]) -> Reconstruction:
    """Fit both devices to the published rows.

    Parameters
    ----------
    models : the profile of every model in `rows`.
    """
    work = {name: work_matrix(model_work(model, PUBLISHED_BATCH)) for name, model in models.items()}
    block_counts = {name: len(model.blocks) for name, model in models.items()}
    pi_times, gpu_times = (stage_times(rows, block_counts, device) for device in (PI, GPU))
    judged = fit_and_judge(work, pi_times)
    gpu_stages = judge_overhead(work, gpu_times)
    contradictions = find_contradictions(models, work, rows, pi_times, judged)
    overhead_s = spread_overhead(work, gpu_times)
    return Reconstruction(
        judged=judged,
        stages=(*judged.stages, *gpu_stages),
        contradictions=contradictions,
        devices=(_pi_device(models, rows), _gpu_device()),
        timings=(
            *(_pi_timing(model, judged, contradictions) for model in models.values()),
            *(_gpu_timing(model, overhead_s[model.name], gpu_stages) for model in models.values()),
        ),
    )


def _pi_timing(model: Model, judged: JudgedFit, contradictions: Sequence[Contradiction]) -> Timing:
    law = judged.fit.law
    return Timing(
        schema_version=1,
        device=PI,
        model=model.name,
        kind="reconstructed",
        how="multiply-adds/f + bytes/b + overhead per block with a correction per model and per segment, fitted by"
        " regularised least squares of logs to the published stage times of both tables, profiles/published/"
        f"pi_to_pi.csv and pi_to_gpu.csv (Masud et al., tables II and III); written by: {COMMAND}",
        batches=(_batch(model, judged.fit.block_times_s[model.name]),),
        error=_error(model.name, judged.stages, "predicted by a fit that never saw its row"),
        conditions={
            "batch": PUBLISHED_BATCH,
            "overhead_bound": False,
            "law_multiply_adds_per_s": _rounded(law.multiply_adds_per_s),
            "law_bytes_per_s": _rounded(law.bytes_per_s),
            "law_overhead_s": _rounded(law.overhead_s),
            "model_factor": _rounded(judged.fit.model_factors[model.name]),
            "model_spread": judged.regularisation.model_spread,
            "segment_spread": judged.regularisation.segment_spread,
        },
        notes=tuple(
            f"published figures that do not go together ({entry.kind}): {entry.arithmetic}"
            for entry in contradictions
            if entry.model == model.name and entry.kind != "beats_the_wire"
        ),
    )


def _gpu_timing(model: Model, block_times_s: Floats, stages: Sequence[StageFit]) -> Timing:
    return Timing(
        schema_version=1,
        device=GPU,
        model=model.name,
        kind="reconstructed",
        how="the model's one published GPU stage time, profiles/published/pi_to_gpu.csv (Masud et al., table III),"
        f" spread evenly over the blocks that compute; written by: {COMMAND}",
        batches=(_batch(model, block_times_s),),
        error=_error(model.name, stages, "predicted as the median of the other models' stage times"),
        conditions={"batch": PUBLISHED_BATCH, "overhead_bound": True},
        notes=(
            "overhead-bound: the published stage times are 9–21 ms whatever the work, so they say what calling the"
            " device costs and nothing of how fast it computes; conclusions between two such devices are refused,"
            " and so are differences between splits that rest on this device's time alone",
            "one published row a model: it is met exactly, by construction, and only the left-out error says anything",
        ),
    )


def _batch(model: Model, block_times_s: Floats) -> BatchTiming:
    return BatchTiming(
        batch=PUBLISHED_BATCH,
        blocks=tuple(
            BlockTiming(name=block.name, value_s=_rounded(float(seconds)))
            for block, seconds in zip(model.blocks, block_times_s, strict=True)
        ),
    )


def _error(model: str, stages: Sequence[StageFit], how: str) -> TimingError:
    """The larger of the model's own median left-out error and the device's.

    A model's few rows may meet by luck; it is not known better than the method is good on all of them.
    """
    own = median_error(stage.left_out_error for stage in stages if stage.time.model == model)
    overall = median_error(stage.left_out_error for stage in stages)
    return TimingError(
        relative=_rounded(max(own, overall)),
        meaning=f"relative error of a stage time, {how}: the larger of this model's median ({own:.1%}) and the"
        f" device's over all models ({overall:.1%})",
    )


def _pi_device(models: Mapping[str, Model], rows: Sequence[PublishedRow]) -> Device:
    reserved_bytes, row, stage = _least_taken(models, rows)
    return Device(
        schema_version=1,
        name=PI,
        title="Raspberry Pi 4 Model B, 4 GB (reconstructed)",
        cores=4,
        memory_bytes=_PI_MEMORY_BYTES,
        reserved_bytes=reserved_bytes,
        idle_power_w=2.7,
        busy_power_w=6.4,
        sources={
            "cores": "Masud et al., section IV-A: 4 core CPU (BCM2711, four Cortex-A72)",
            "memory_bytes": "Masud et al., section IV-A: 4 GB, here 4·2^30 bytes; less the 76·2^20 bytes that the"
            " firmware keeps by default (gpu_mem in raspberrypi.com/documentation/computers/legacy_config_txt.html)",
            "reserved_bytes": "system, Python and torch: the smallest over all published Pi stages of memory percentage"
            f" × memory_bytes − weights of the stage's blocks, found at {row.name}, stage {stage}"
            f" ({row.memory_fraction[stage - 1]:.2%}); activations of that stage are still in it",
            "idle_power_w": "Raspberry Pi Dramble, power consumption benchmarks: Pi 4 B idle, 540 mA at 5 V;"
            " chipwired.com/raspberry-pi-power-use has 2.2–3.0 W by three meters",
            "busy_power_w": "Raspberry Pi Dramble, power consumption benchmarks: Pi 4 B, 400 % CPU (stress --cpu 4),"
            " 1280 mA at 5 V (the same in linuxhint.com/power-consumption-raspberry-pi); chipwired.com has 5.1–6.3 W",
        },
    )


def _least_taken(models: Mapping[str, Model], rows: Sequence[PublishedRow]) -> tuple[int, PublishedRow, int]:
    """Smallest published memory of a Pi stage less its weights, in whole MiB; with its row and stage."""
    taken = []
    for row in rows:
        blocks = models[row.model].blocks
        parts = [blocks[: row.split], blocks[row.split :]]
        for stage in (1, 2) if row.table == "pi_to_pi" else (1,):
            weights = sum(block.weight_bytes for block in parts[stage - 1])
            taken.append((row.memory_fraction[stage - 1] * _PI_MEMORY_BYTES - weights, row, stage))
    least_bytes, row, stage = min(taken, key=lambda entry: entry[0])
    return round(least_bytes / _MEBIBYTE) * _MEBIBYTE, row, stage


def _gpu_device() -> Device:
    return Device(
        schema_version=1,
        name=GPU,
        title="server with an NVIDIA GeForce RTX 4090 (reconstructed, overhead-bound)",
        memory_bytes=24 * 2**30,
        accelerator="NVIDIA GeForce RTX 4090",
        idle_power_w=21.0,
        busy_power_w=450.0,
        sources={
            "memory_bytes": "NVIDIA, GeForce RTX 4090 specifications: 24 GB GDDR6X, here 24·2^30 bytes",
            "reserved_bytes": "not known, so 0: the published GPU memory percentages (4–6 %) do not say whether they"
            " are of the card or of its host, and a CUDA context takes some hundred MB",
            "accelerator": "Masud et al., section IV-A",
            "idle_power_w": "reviewers' measurements of the card alone: about 21 W"
            " (nationalpcbuilder.com, RTX 4090 power consumption)",
            "busy_power_w": "NVIDIA, GeForce RTX 4090 specifications: total graphics power, the card's limit under"
            " full load; at the published utilisations (0.07–4 %) it draws far less",
        },
    )


def _rounded(value: float) -> float:
    return float(f"{value:.{_SIGNIFICANT_DIGITS}g}")
