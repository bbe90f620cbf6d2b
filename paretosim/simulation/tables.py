"""A simulation as the lines that a person reads in a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from paretosim.show.columns import Column, aligned
from paretosim.show.tables import calibration_lines
from paretosim.simulation.as_json import latency_figures, throughput_per_s
from paretosim.simulation.simulating import Simulation
from paretosim.units import format_duration, format_number, format_rate


def show(simulation: Simulation, console: Console) -> None:
    """Print what was run, latency with its percentiles, throughput, and how busy each station was."""
    for line in _lines(simulation):
        console.print(line, soft_wrap=True)


def _lines(simulation: Simulation) -> list[Text]:
    setting, conditions, link = simulation.setting, simulation.conditions, simulation.setting.link
    one, two = setting.devices
    rate = f"{format_rate(link.rate_bps)} and {format_duration(link.one_way_delay_s)} forward"
    if conditions.trace is not None:
        rate = (
            f"forward by a trace of {len(conditions.trace.times_s)} rows, {format_rate(link.return_rate_bps)} and"
            f" {format_duration(link.return_delay_s)} back, headers of {link.header_bytes} bytes"
        )
    figures = latency_figures(simulation)
    per_s = throughput_per_s(simulation)
    clock = ", from the start of stage 1" if setting.operation.clock == "stage1" else ""
    names = ("mean", "p50", "p95", "p99", "min", "max")
    latency = ", ".join(f"{name} {_time(figures[f'{name}_s'])}" for name in names)
    stations = tuple(simulation.stations)
    shares = tuple(f"{simulation.busy_share(j):.1%}" for j in range(len(stations)))
    lines = [
        Text.assemble(
            (f"{setting.model.name}", "bold"),
            f" split {simulation.split} over {one.name} → {two.name}, batch {setting.batch}, mode {setting.mode},"
            f" {conditions.batches} batches from an empty pipeline, {setting.operation.workers} workers",
        ),
        Text(
            f"link {link.name}: {rate}; TCP {conditions.tcp_state}; jitter {conditions.jitter:.1%},"
            f" seed {setting.operation.seed}"
        ),
        *calibration_lines(setting),
        Text(f"latency{clock}: {latency}", style="bold"),
        Text(
            f"throughput: {'–' if per_s is None else format_number(per_s, 4)} images/s, a batch every"
            f" {_time(simulation.period_s)}; all done after {_time(simulation.makespan_s)}",
            style="bold",
        ),
    ]
    if simulation.saturated_period_s is not None:
        lines.append(Text("(throughput of a first run that was never short of batches; it set the pace)", style="dim"))
    columns = [Column(heading="station", cells=stations, align="left"), Column(heading="busy", cells=shares)]
    return [*lines, aligned(columns, [""] * len(stations))]


def _time(seconds: float) -> str:
    return format_duration(seconds, digits=4, gap=" ")
