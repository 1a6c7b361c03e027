"""Spike rasters and firing rates per layer, of a few samples that the page ran itself."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup, escape

from lavatube.sim.report.artifacts import Artifacts
from lavatube.sim.report.parts import Choice, Missing, Part, Picture, Section, Table, Words
from lavatube.sim.report.pictures import LEFT, RIGHT, WIDTH, Plot, framed
from lavatube.sim.report.watched import Watched
from lavatube.trace import SpikeTrace

ROWS = 160  # neurons of a layer in a raster, evenly chosen
BINS = 20
STEPS = 300  # drawn


def activity(found: Artifacts, watched: Watched | None) -> Section:
    trace = watched.trace if watched is not None else next(iter(found.traces.values()), None)
    if trace is None:
        command = f"samples with labels at {found.folder}/input.npz, then lavatube report {found.folder}"
        return Section("activity", "Spikes", [Missing("samples to watch", command)])
    stored = f"a trace of the folder, made by {trace.meta.get('engine')}"
    origin = stored if watched is None else "the fast engine, run for this page"
    panels: list[tuple[str, list[Part]]] = []
    for sample in range(min(trace.batch, 3)):
        pictures = [_raster(name, value, trace, sample) for name, value in trace.spikes.items()]
        panels.append((f"sample {sample}", pictures))
    parts: list[Part] = [Words(f"From {origin}: {min(trace.batch, 3)} samples x {trace.num_steps} timesteps.")]
    parts.append(Choice("Raster of", panels))
    parts += [_rates(name, value, trace) for name, value in trace.spikes.items()]
    return Section("activity", "Spikes", parts)


def _raster(name: str, value: np.ndarray, trace: SpikeTrace, sample: int) -> Part:
    """One tick a spike; at most so many neurons, evenly chosen."""
    spikes = value[:STEPS, sample].reshape(min(len(value), STEPS), -1)
    size = spikes.shape[1]
    chosen = np.unique(np.linspace(0, size - 1, min(size, ROWS)).astype(int))
    steps, high = len(spikes), max(len(chosen), 20)
    across = (WIDTH - LEFT - RIGHT) / steps
    path = "".join(
        f"M{LEFT + t * across:.1f} {4 + row * high / len(chosen):.1f}h{max(across - 1, 0.8):.1f}"
        for t, row in np.argwhere(spikes[:, chosen] != 0)
    )
    thick = max(high / len(chosen) - 0.3, 0.6)
    total, length = int((spikes != 0).sum()), max(int(trace.length[sample]), 1)
    title = f"{name}: spikes of sample {sample}"
    says = f"{total:,} spikes of {size:,} neurons in {length} timesteps"
    shown = "" if len(chosen) == size else f", {len(chosen)} of them drawn"
    inside = (
        f'<rect class="ground" x="{LEFT}" y="4" width="{WIDTH - LEFT - RIGHT}" height="{high}"/>'
        f'<path class="ticks" stroke-width="{thick:.1f}" d="{path}"/>'
        f'<text x="12" y="{4 + high / 2}" text-anchor="middle" transform="rotate(-90 12 {4 + high / 2})">neuron</text>'
        f'<text x="{LEFT}" y="{high + 18}">step 0</text>'
        f'<text x="{WIDTH - RIGHT}" y="{high + 18}" text-anchor="end">{steps - 1}</text>'
    )
    by_step = [(t, f"{int((spikes[t] != 0).sum()):,}") for t in range(steps)]
    table = Table(f"{name}: spikes by timestep", ("timestep", "spikes"), by_step)
    svg: Markup = framed(title, says, WIDTH, high + 24, inside, css="raster")
    return Picture(f"{title}: {escape(says)}{shown}", svg, table)


def _rates(name: str, value: np.ndarray, trace: SpikeTrace) -> Part:
    """How often the neurons fire, per timestep, over the samples watched."""
    steps = max(int(trace.length.sum()), 1)
    rates = (value != 0).sum((0, 1)).reshape(-1) / steps
    top = max(float(rates.max()), 1e-9)
    numbers, edges = np.histogram(rates, bins=BINS, range=(0, top))
    silent = int((rates == 0).sum())
    title = f"{name}: firing rates"
    says = f"mean {rates.mean():.4f} spikes a timestep; {silent:,} of {rates.size:,} neurons are silent"
    if silent == rates.size:
        says = f"no neuron spikes in these {trace.batch} samples"
    plot = Plot(title, says, (0, top), (0, float(numbers.max()) or 1.0), "spikes per timestep", "neurons", 170)
    width = top / BINS
    for number, start in zip(numbers, edges[:-1], strict=True):
        plot.bar(float(start), width, float(number), f"{start:.3f} to {start + width:.3f}: {int(number):,} neurons")
    rows = [(f"{start:.4f} to {start + width:.4f}", int(n)) for n, start in zip(numbers, edges[:-1], strict=True)]
    return Picture(f"{title}: {says}", plot.svg(), Table(title, ("spikes per timestep", "neurons"), rows))
