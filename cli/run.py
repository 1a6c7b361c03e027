"""lavatube run"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lavatube.cli.options import Conv, Device, Json, StockOnly, Timeout, Workers

CONTRACT_HELP = (
    "How a NIR file is stepped in time: a preset, and fields that differ (docs/contract.md). Presets: loihi, lava, "
    "norse, norse-subtract, snntorch, snntorch-subtract, snntorch-delay, snntorch-delay-zero, spikingjelly, sinabs, "
    "spyx, spyx-1.0, nengo, rockpool, spinnaker2."
)


def run(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="PROGRAM|DIR|FILE", help="A program, a run folder, for onnx an .onnx file, for float a .nir file."
        ),
    ],
    inputs: Annotated[Path, typer.Option("--input", help="X.npz, .npy or .h5: `input` [T, B, ...] or [B, ...].")],
    backend: Annotated[
        str, typer.Option("--backend", help="reference, fast, lava, onnx, torch (the checkpoint itself), or float.")
    ] = "fast",
    out: Annotated[Path, typer.Option("--out", help="Trace file to write, .npz or .h5.")] = Path("trace.npz"),
    no_trace: Annotated[bool, typer.Option("--no-trace", help="Counts and read-out only: write no trace.")] = False,
    counts: Annotated[Path | None, typer.Option("--counts", help="Also write the counts, counts.json.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Timesteps; default: the program's.")] = None,
    record: Annotated[str, typer.Option("--record", help="Also record the state: v, u or v,u.")] = "",
    overflow: Annotated[
        str | None, typer.Option("--overflow", help="strict or hardware; default: the program's.")
    ] = None,
    packed: Annotated[bool, typer.Option("--packed", help="Write binary spikes with one bit each.")] = False,
    contract: Annotated[
        str | None, typer.Option("--contract", metavar="NAME[,FIELD=VALUE]", help=CONTRACT_HELP)
    ] = None,
    dt: Annotated[float | None, typer.Option("--dt", help="Timestep of a NIR file, instead of the contract's.")] = None,
    conv: Conv = "auto",
    stock_only: StockOnly = False,
    pad_windows: Annotated[
        bool, typer.Option("--pad-windows", help="Lava: silence after each sample, up to a power of two timesteps.")
    ] = False,
    timeout: Timeout = None,
    workers: Workers = None,
    device: Device = "cpu",
    json: Json = False,
) -> int:
    """Run a program on an engine and write every spike of every neuron at every timestep."""
    from lavatube.cli.output import print_json, progress_bar
    from lavatube.errors import LavatubeError
    from lavatube.sim.input_parts import HDF5
    from lavatube.sim.run import run as run_program

    if overflow not in (None, "strict", "hardware"):
        raise LavatubeError("--overflow", expected="strict or hardware", got=str(overflow))
    kept = [name.strip() for name in record.split(",") if name.strip()]
    given = {"--packed": packed, "--overflow": overflow, "--stock-only": stock_only, "--conv": conv != "auto",
             "--timeout": timeout is not None, "--device": device != "cpu",
             "--workers": workers is not None, "--pad-windows": pad_windows}  # fmt: skip
    _refuse_unused([option for option, value in given.items() if value], backend, source)
    if backend == "float":
        if counts is not None or no_trace:
            raise LavatubeError("--counts and --no-trace are about programs", got="--backend float")
        return _run_float(source, inputs, out, steps, kept, contract, dt, json)
    if contract is not None or dt is not None or source.suffix == ".nir":
        remedy = "add --backend float, or lower the file to a program first"
        raise LavatubeError("a float NIR file runs on the float backend", got=f"--backend {backend}", remedy=remedy)
    if (backend == "fast" and (no_trace or out.suffix in HDF5)) or inputs.suffix in (".npy", *HDF5):
        from lavatube.cli.run_stream import run_stream

        if backend != "fast" or packed:
            what = "a run by parts (--no-trace, .h5, .npy)"
            raise LavatubeError(what, expected="--backend fast, no --packed", got=f"--backend {backend}")
        written = None if no_trace else out
        return run_stream(source, inputs, written, counts, steps, kept, device, overflow, json)  # type: ignore[arg-type]
    if no_trace:
        raise LavatubeError("--no-trace", expected="--backend fast", got=f"--backend {backend}")
    with progress_bar(backend) as update:
        trace = run_program(
            source, inputs, backend=backend, out=out, counts=counts, steps=steps, record=kept, device=device, conv=conv,
            stock_only=stock_only, pad_windows=pad_windows, timeout=timeout, workers=workers, overflow=overflow,  # type: ignore[arg-type]
            packed=packed, progress=update,
        )  # fmt: skip
    spikes = {name: int((value != 0).sum()) for name, value in trace.spikes.items()}
    if json:
        print_json(
            {"trace": str(out), "steps": trace.num_steps, "samples": trace.batch, "spikes": spikes, **trace.meta}
        )
        return 0
    print(f"wrote {out}: {trace.batch} samples x {trace.num_steps} timesteps on {backend} ({trace.meta['device']})")
    for name, count in spikes.items():
        print(f"  {name}: {count:,} spikes")
    overflowed = {
        kind: sum(rows.values()) for kind, rows in (trace.meta.get("overflow") or {}).items() if sum(rows.values())
    }
    if overflowed:
        print("  overflow: " + ", ".join(f"{count:,} {kind}" for kind, count in overflowed.items()))
    return 0


ENGINES = ("reference", "fast", "lava", "onnx", "torch", "float")
USED_BY = {  # options that not every engine has a use for
    "--overflow": ("reference", "fast", "lava", "onnx", "torch"),
    "--packed": ("reference", "fast", "lava", "onnx", "torch"),
    "--device": ("fast", "torch"),
    "--conv": ("lava",),
    "--stock-only": ("lava",),
    "--timeout": ("lava",),
    "--workers": ("lava",),
    "--pad-windows": ("lava",),
}


def _refuse_unused(given: list[str], backend: str, source: Path) -> None:
    from lavatube.errors import LavatubeError

    for option in given:
        meant = USED_BY[option]
        if backend in ENGINES and backend not in meant:
            expected = f"--backend {' or '.join(meant)}"
            raise LavatubeError(f"{option} would not be used", expected=expected, got=f"--backend {backend}")
        if option == "--overflow" and source.suffix == ".onnx":
            raise LavatubeError(f"{option} would not be used", where=str(source), expected="a program")


def _run_float(
    source: Path, inputs: Path, out: Path, steps: int | None, record: list[str], contract: str | None,
    dt: float | None, json: bool,
) -> int:  # fmt: skip
    from lavatube.cli.output import print_json, progress_bar
    from lavatube.sim.float_run import run_float

    with progress_bar("float") as update:
        trace = run_float(
            source, inputs, contract=contract, dt=dt, steps=steps, record=record, out=out, progress=update
        )
    spikes = {name: int(value.sum()) for name, value in trace.spikes.items()}
    if json:
        print_json(
            {"trace": str(out), "steps": trace.num_steps, "samples": trace.batch, "spikes": spikes, **trace.meta}
        )
        return 0
    stated = trace.meta["contract"]
    print(
        f"wrote {out}: {trace.batch} samples x {trace.num_steps} timesteps, {stated['name']} with dt {stated['dt']:g}"
    )
    for name, count in spikes.items():
        print(f"  {name}: {count:,} spikes")
    for record_made in trace.meta["assumptions"]:
        where = f"{record_made['node']}: " if record_made["node"] else ""
        print(f"  assumed: {where}{record_made['what']} ({record_made['why']})")
    return 0
