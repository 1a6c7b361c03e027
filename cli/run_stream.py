"""lavatube run, by parts: for recordings that are larger than memory."""

from __future__ import annotations

from pathlib import Path

from lavatube.program import Overflow


def run_stream(
    source: Path, inputs: Path, out: Path | None, counts: Path | None, steps: int | None, record: list[str],
    device: str, overflow: Overflow | None, json: bool,
) -> int:  # fmt: skip
    """out: TRACE.h5, or None for counts and read-outs only."""
    from lavatube.cli.output import print_json, progress_bar
    from lavatube.sim.stream import stream

    with progress_bar("fast") as update:
        found = stream(
            source, inputs, out=out, counts=counts, steps=steps, record=record, device=device, overflow=overflow,
            progress=update,
        )  # fmt: skip
    populations = found.meta["overflow"]["wraps"]  # in order of the layers, read-outs after them
    spikes = {name: layer.spikes_out for name, layer in zip(populations, found.counts.layers.values(), strict=False)}
    correct = None
    if found.label is not None and len(found.readouts) == 1:
        correct = int((next(iter(found.predictions.values())) == found.label).sum())
    if json:
        readouts = {name: value.tolist() for name, value in found.readouts.items()}
        facts = {"trace": None if out is None else str(out), "samples": len(found.length), "correct": correct}
        print_json({**facts, "spikes": spikes, "readout": readouts, **found.meta})
        return 0
    written = "ran" if out is None else f"wrote {out}:"
    steps_done = int(found.length.sum())
    print(f"{written} {len(found.length)} samples, {steps_done:,} timesteps on fast ({found.meta['device']})")
    for name, count in spikes.items():
        print(f"  {name}: {count:,} spikes")
    if correct is not None:
        print(f"  correct: {correct} of {len(found.length)}")
    for kind, rows in found.meta["overflow"].items():
        if sum(rows.values()):
            print(f"  overflow: {sum(rows.values()):,} {kind}")
    if counts is not None:
        print(f"wrote {counts}")
    return 0
