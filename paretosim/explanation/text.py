"""An explanation as a person reads it: terms in a table, one batch and the steady state as timelines, what binds."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from paretosim.explanation.explaining import Change, Explanation, held_up
from paretosim.show.columns import Column, aligned
from paretosim.show.tables import calibration_lines, timing_lines
from paretosim.units import format_bytes, format_duration, format_number, format_rate

# Of the steady state, so that it shows how one batch follows another and can still be read.
PERIODS_SHOWN = 3


def show(explanation: Explanation, console: Console) -> None:
    """Print terms, timelines and what binds."""
    setting, row = explanation.setting, explanation.row
    one, two = (device.name for device in setting.devices)
    console.print(
        Text.assemble(
            (f"{setting.model.name} at split {row.split}", "bold"),
            f" over {one} → {two}, batch {setting.batch}, mode {setting.mode}; link {setting.link.name}, TCP"
            f" {setting.tcp_state}",
        ),
        soft_wrap=True,
    )
    for line in (*timing_lines(setting), *calibration_lines(setting)):
        console.print(line, soft_wrap=True)
    console.print(term_table(explanation))
    width = max(30, min(100, console.width) - max(len(s.station) for s in explanation.stations) - 12)
    console.print(batch_timeline(explanation, width), soft_wrap=True)
    if explanation.limit != "batch":
        console.print(steady_timeline(explanation, width), soft_wrap=True)
    console.print(Text(" ".join(sentences(explanation)), style="bold"))


def term_table(explanation: Explanation) -> Text:
    """Every term with its time, its share of L₀, its station and source, and their sum."""
    terms = explanation.terms
    inside = [term for term in terms if term.source != "mode"]
    lines: list[tuple[str, ...]] = [
        (t.station, t.term, _seconds(t.seconds), f"{t.share:.1%}", t.source) for t in inside
    ]
    lines.append(("", "one batch, L₀", _seconds(explanation.unloaded_s), "100.0%", ""))
    waiting = [(t.station, t.term, _seconds(t.seconds), f"{t.share:.1%}", t.source) for t in terms if t not in inside]
    lines += waiting
    if waiting:
        share = explanation.row.latency_s / explanation.unloaded_s
        lines.append(("", "latency", _seconds(explanation.row.latency_s), f"{share:.1%}", ""))
    cells = list(zip(*lines, strict=True))
    columns = [
        Column(heading="station", cells=cells[0], align="left"),
        Column(heading="term", cells=cells[1], align="left"),
        Column(heading="seconds", cells=cells[2]),
        Column(heading="of L₀", cells=cells[3]),
        Column(heading="from", cells=cells[4], align="left"),
    ]
    return aligned(columns, ["bold" if not line[0] else "dim" if line[4] == "mode" else "" for line in lines])


def batch_timeline(explanation: Explanation, width: int) -> Text:
    """One batch through an empty pipeline, a row for each station, delays left blank."""
    text = Text(f"one batch, 0 to {_time(explanation.unloaded_s)}:\n")
    span_s = explanation.unloaded_s
    for station in explanation.stations:
        bar = _drawn([(station.start_s, station.end_s, "#")], 0.0, span_s, width)
        text.append_text(_timeline_row(explanation, station.station, bar, _time(station.end_s - station.start_s)))
    return text


def steady_timeline(explanation: Explanation, width: int) -> Text:
    """A few intervals of a full pipeline, waiting left out; batches by the last digit of their number."""
    period_s = explanation.interval_s
    first = int(explanation.unloaded_s // period_s) + 1
    start_s = first * period_s
    end_s = start_s + PERIODS_SHOWN * period_s
    text = Text(f"steady state, a batch every {_time(period_s)}, {PERIODS_SHOWN} of them:\n")
    for station in explanation.stations:
        # No more batches can be in the pipeline than have been sent since the first of the window entered it.
        oldest = max(0, int((start_s - station.end_s) // period_s))
        newest = int((end_s - station.start_s) // period_s)
        spans = [
            (station.start_s + n * period_s, station.end_s + n * period_s, str(n % 10))
            for n in range(oldest, newest + 1)
        ]
        busy = (station.end_s - station.start_s) / period_s
        text.append_text(
            _timeline_row(explanation, station.station, _drawn(spans, start_s, end_s, width), f"{busy:.0%}")
        )
    return text


def sentences(explanation: Explanation) -> list[str]:
    """What binds, by how much, and what would have to change for something else to."""
    found = [_what_binds(explanation)]
    found += [_in_words(explanation, change) for change in explanation.changes]
    if not explanation.changes:
        what = "rate or stage" if held_up(explanation.setting) else "rate, message or stage"
        found.append(f"No change of one {what} alone makes another station bind.")
    return found


def _what_binds(explanation: Explanation) -> str:
    binds, slowest = explanation.binds, _time(explanation.slowest_s)
    beside = ""
    if explanation.second is not None:
        beside = f"; next is {explanation.second} with {_time(explanation.second_s)}"
        if explanation.slack_s >= 0:
            beside += f", {_time(explanation.slack_s)} less"
    plain = explanation.setting.operation.is_plain
    longest = f"{binds} takes {'longest,' if plain else 'by itself'} {slowest}{beside}."
    if explanation.limit == "batch":
        return f"One batch at a time: nothing overlaps, so every term counts and no station binds. {longest}"
    if explanation.limit == "window":
        window = explanation.setting.mode.window
        return (
            f"The window binds: {window} batches in flight take turns, one every {_time(explanation.interval_s)};"
            f" from window {explanation.window_to_bind} on {binds} would. {longest}"
        )
    if explanation.limit == "arrivals":
        return f"Arrivals bind: a batch comes every {_time(explanation.interval_s)}, and all can follow. {longest}"
    return f"{binds} binds: a batch every {_time(explanation.interval_s)}. {longest}"


def _in_words(explanation: Explanation, change: Change) -> str:
    binds, value, then = explanation.binds, change.threshold, change.then
    # Where stations hold each other up, the one that binds need not be the longest by itself.
    is_it, being_it, does = (
        ("binds", "binding", "does") if held_up(explanation.setting) else ("is the longest", "being the longest", "is")
    )
    if change.quantity in ("rate_bps", "return_rate_bps"):
        way = "rate" if change.quantity == "rate_bps" else "return rate"
        amount = f"a {way} of {_rate(value)} (now {_rate(change.now)})"
        if change.direction == "above":
            return f"{binds} stops {being_it} above {amount}; then {then} {does}."
        return f"Below {amount}, {then} {is_it}."
    if change.quantity == "message_bytes":
        return (
            f"{binds} stops being the longest when the message of link1 shrinks to {format_bytes(value)}"
            f" ({value:.0f} bytes, now {format_bytes(change.now)}); then {then} is."
        )
    stage = change.quantity.removesuffix("_factor")
    factor = f"{format_number(value, 4)} times as long"
    if change.direction == "below":
        return f"{binds} stops {being_it} when the blocks of {stage} take less than {factor}; then {then} {does}."
    return f"{stage} {is_it} when its blocks take more than {factor}." if then == stage else (
        f"When the blocks of {stage} take more than {factor}, {then} {is_it}."
    )  # fmt: skip


def _timeline_row(explanation: Explanation, station: str, bar: str, figure: str) -> Text:
    name = max(len(one.station) for one in explanation.stations)
    style = "yellow" if station == explanation.binds else ""
    return Text(f"  {station:<{name}} |{bar}| {figure}\n", style)


def _drawn(spans: list[tuple[float, float, str]], start_s: float, end_s: float, width: int) -> str:
    """Spans on a line of `width` characters, none of them so short that it cannot be seen; nothing for no time."""
    cells = [" "] * width
    scale = width / (end_s - start_s) if end_s > start_s else 0.0
    for begin, end, mark in spans:
        if end <= begin or end <= start_s or begin >= end_s:
            continue
        left = min(width - 1, max(0, round((begin - start_s) * scale)))
        right = min(width, max(left + 1, round((end - start_s) * scale)))
        cells[left:right] = mark * (right - left)
    return "".join(cells)


def _seconds(value: float) -> str:
    return format_number(value, 4)


def _time(duration_s: float) -> str:
    sign = "-" if duration_s < 0 else ""
    return sign + format_duration(abs(duration_s), digits=3, gap=" ")


def _rate(rate_bps: float) -> str:
    return format_rate(float(f"{rate_bps:.4g}"))
