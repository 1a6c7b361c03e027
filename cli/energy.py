"""lavatube energy"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lavatube.cli.options import Json

if TYPE_CHECKING:
    import numpy as np

    from lavatube.program import LoihiProgram
    from lavatube.sim.counts import Counts
    from lavatube.sim.energy import StepTimes
    from lavatube.sim.price_table import PriceTable

PRICES_HELP = (
    "Price table by name, a file, or a folder of files; repeat for several (docs/energy.md). Default: loihi1-band, "
    "loihi1-davies2018 and loihi1-sanafe2025. Others: loihi2-scaled, kerasspiking-loihi, spinnaker1, "
    "spinnaker2-prototype, horowitz45-fp32, horowitz45-fp16, horowitz45-int8, horowitz45-mem; device-degnan-cpu, "
    "device-degnan-gpu, device-degnan-arm, device-blouw2019-cpu, device-blouw2019-gpu, device-blouw2019-jetson, "
    "device-blouw2019-movidius."
)
OUT_HELP = "Folder for counts.json and energy.json, with --per-step counts_per_step.json, with --measure measured.json."


def energy(
    program: Annotated[
        Path | None, typer.Argument(metavar="PROGRAM|DIR", help="A program file or a run folder.")
    ] = None,
    inputs: Annotated[Path | None, typer.Option("--input", help="X.npz, .npy or .h5 to run and count.")] = None,
    counts: Annotated[Path | None, typer.Option("--counts", help="counts.json to price instead of running.")] = None,
    trace: Annotated[
        Path | None, typer.Option("--trace", help="A trace of any engine to count instead of running.")
    ] = None,
    prices: Annotated[list[str] | None, typer.Option("--prices", help=PRICES_HELP)] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target", help="loihi1, loihi2 or loihi2-2022, or a file of limits, as for map; default: its own."
        ),
    ] = None,
    per_step: Annotated[bool, typer.Option("--per-step", help="Also the counts of every timestep.")] = False,
    measure: Annotated[
        str, typer.Option("--measure", help="Also measure the checkpoint's torch forward: cpu (RAPL) or cuda (NVML).")
    ] = "",
    out: Annotated[Path | None, typer.Option("--out", help=OUT_HELP)] = None,
    json: Json = False,
) -> int:
    """Exact counts of a run, and joules as an interval over cited price tables, with what is unpriced."""
    from lavatube.cli.output import console, print_json
    from lavatube.deploy.mapping.limits import load_limits
    from lavatube.errors import LavatubeError
    from lavatube.files import require_writable, write_json
    from lavatube.program_file import load_program
    from lavatube.sim.counts import save_counts
    from lavatube.sim.energy import energy as estimate_energy
    from lavatube.sim.energy import save_energy
    from lavatube.sim.energy_tables import render_counts, render_energy, render_measured
    from lavatube.sim.price_table import DEFAULT_PRICES, find_prices
    from lavatube.sim.run import program_path

    if (counts is not None) + (inputs is not None) + (trace is not None) != 1:
        raise LavatubeError(
            "what to count", expected="exactly one of --input, --trace and --counts", got="none or several"
        )
    if counts is not None and per_step:
        raise LavatubeError("--per-step", expected="--input or --trace: counts.json holds sums", got="--counts")
    if out is not None:
        require_writable(out, keep=False)
    loaded = load_program(program_path(program)) if program is not None else None
    aim = target or (loaded.target if loaded else "loihi2")
    limits = load_limits(aim)
    tables = find_prices(prices or DEFAULT_PRICES)
    counted, times, steps, unplaced = _counted(loaded, inputs, trace, counts, per_step, aim, tables)
    estimate = estimate_energy(counted, tables, target=limits.target, activity=times)
    if unplaced:
        estimate = replace(estimate, labels=(*estimate.labels, f"not placed on cores: {unplaced}"))
    found: dict[str, Any] = {"counts": counted.to_json(), "energy": estimate.to_json()}
    if steps is not None:
        found["per_step"] = steps
    if measure:
        found["measured"] = _measured(program, inputs, loaded, measure)
    if out is not None:
        save_counts(counted, out / "counts.json")
        save_energy(estimate, out / "energy.json")
        for name in ("per_step", "measured"):
            if name in found:
                write_json(out / ("counts_per_step.json" if name == "per_step" else "measured.json"), found[name])
    if json:
        print_json(found)
        return 0
    screen = console()
    screen.print(render_counts(found["counts"]))
    if steps is not None and out is None:
        from lavatube.sim.energy_tables import render_steps

        screen.print(render_steps(steps))
    screen.print(render_energy(found["energy"]))
    if "measured" in found:
        screen.print(render_measured(found["measured"]))
    return 0


def _counted(
    program: LoihiProgram | None,
    inputs: Path | None,
    trace: Path | None,
    counts: Path | None,
    per_step: bool,
    target: str,
    tables: Sequence[PriceTable],
) -> tuple[Counts, StepTimes | None, dict[str, Any] | None, str]:
    from lavatube.errors import LavatubeError
    from lavatube.program_file import program_sha256
    from lavatube.sim.counted_parts import counted_run, counted_trace
    from lavatube.sim.counts import count_cores, count_steps, load_counts
    from lavatube.sim.energy import StepTimes
    from lavatube.sim.placing import place
    from lavatube.sim.stream import stream

    if counts is not None:
        found = load_counts(counts)
        if program is not None and found.program_sha256 != program_sha256(program):
            raise LavatubeError("these are the counts of another program", where=str(counts))
        return found, None, None, ""
    if program is None:
        raise LavatubeError("no program", expected="PROGRAM or DIR beside --input or --trace")
    placement, reason = place(program, target)
    if placement is None and inputs is not None and not per_step:
        return stream(program, inputs).counts, None, None, reason
    total: Counts | None = None
    times, steps = StepTimes(tables), None
    for seen, found in counted_run(program, inputs) if inputs is not None else counted_trace(program, Path(str(trace))):
        total = found if total is None else total + found
        if placement is not None:
            times.add(count_cores(program, seen, placement))
        if per_step:
            steps = _added(steps, count_steps(program, seen))
    assert total is not None
    if placement is None:
        return total, None, steps, reason
    return replace(total, traffic=times.traffic), times, steps, ""


def _added(before: dict[str, Any] | None, found: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, Any]:
    """{layer: {term: [T] sums over the samples}} with those of more samples."""
    sums = {layer: {term: values.sum(1).tolist() for term, values in rows.items()} for layer, rows in found.items()}
    if before is None:
        return sums
    return {
        layer: {term: list(map(add, before[layer][term], values)) for term, values in rows.items()}
        for layer, rows in sums.items()
    }


def _measured(folder: Path | None, inputs: Path | None, program: LoihiProgram | None, device: str) -> dict[str, Any]:
    from lavatube.errors import LavatubeError
    from lavatube.inputs import load_inputs
    from lavatube.sim.measured.measure import measure

    if folder is None or inputs is None or program is None or not folder.is_dir():
        raise LavatubeError("--measure", expected="a run folder (its quantized checkpoint is run) and --input")
    batch = load_inputs(inputs, program.inputs, default_steps=program.num_steps)
    return measure(folder, batch, device=device).to_json()
