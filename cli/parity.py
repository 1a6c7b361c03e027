"""lavatube parity"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lavatube.cli.options import Conv, DataDir, Device, Json, StockOnly, Timeout, Workers

AGAINST_HELP = (
    "Engines to compare with the reference, by commas: fast, lava, onnx, torch (a run folder's checkpoint); default "
    "fast,lava, and torch for a run folder. Or float alone, see --float."
)


def parity(
    source: Annotated[Path, typer.Argument(metavar="PROGRAM|DIR|A.npz", help="A program, a run folder, or a trace.")],
    other: Annotated[
        Path | None, typer.Argument(metavar="[B.npz]", help="A second trace to compare with the first.")
    ] = None,
    data: Annotated[str | None, typer.Option("--data", help="Data set name (its test split) or X.npz.")] = None,
    against: Annotated[str, typer.Option("--against", help=AGAINST_HELP)] = "",
    samples: Annotated[int | None, typer.Option("--samples", help="Only the first N samples.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Report file; default parity.json in the run folder, if all was compared."),
    ] = None,
    record: Annotated[str, typer.Option("--record", help="Also compare the state: v, u or v,u.")] = "",
    program: Annotated[
        Path | None, typer.Option("--program", help="Program of the two traces, to compare counts and joules, too.")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Where two differ, say why.")] = False,
    float_file: Annotated[
        Path | None,
        typer.Option("--float", help="With --against float: the .nir file of the program; default: the folder's."),
    ] = None,
    contract: Annotated[
        str | None, typer.Option("--contract", help="How that file is stepped; default: as it was quantized.")
    ] = None,
    dt: Annotated[float | None, typer.Option("--dt", help="Its timestep in seconds.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Timesteps of static data, for float.")] = None,
    max_count_error: Annotated[
        float, typer.Option("--max-count-error", help="Gate of --against float, for each layer's spike counts.")
    ] = 0.1,
    min_agreement: Annotated[
        float, typer.Option("--min-agreement", help="Gate of --against float, for each read-out's predictions.")
    ] = 0.9,
    max_energy_error: Annotated[
        float,
        typer.Option("--max-energy-error", help="Gate of --against float, for energy by each price table."),
    ] = 0.1,
    conv: Conv = "auto",
    stock_only: StockOnly = False,
    timeout: Timeout = None,
    workers: Workers = None,
    device: Device = "cpu",
    data_dir: DataDir = None,
    json: Json = False,
) -> int:
    """Compare every spike of every neuron at every timestep, tolerance zero. Exit 1 on a mismatch, naming the first."""
    from lavatube.cli.output import console, print_json, progress_bar
    from lavatube.errors import LavatubeError
    from lavatube.sim.parity import parity as run_parity
    from lavatube.sim.parity import parity_of_traces
    from lavatube.sim.tables import render_parity

    if against.strip() == "float":
        from lavatube.cli.float_parity import compare_with_float

        given = {"--record": record, "--program": program, "--timeout": timeout}
        given["--workers"] = workers
        given |= {"--stock-only": stock_only, "--explain": explain}
        if unused := [option for option, value in given.items() if value] + (["B.npz"] if other else []):
            raise LavatubeError("not with --against float", where=unused[0], remedy="leave the option out")
        if data is None:
            raise LavatubeError("no samples", where="parity", expected="--data X.npz in the float file's units")
        return compare_with_float(
            source, json, float_file=float_file, contract=contract, dt=dt, data=data, samples=samples, steps=steps,
            max_count_error=max_count_error, min_agreement=min_agreement, max_energy_error=max_energy_error, out=out,
        )  # fmt: skip
    if float_file is not None or contract is not None or dt is not None or steps is not None:
        raise LavatubeError("--float, --contract, --dt, --steps: for --against float", remedy="leave it out")
    if other is not None or source.suffix in (".npz", ".h5", ".hdf5"):
        given = {
            "--data": data, "--against": against, "--samples": samples, "--record": record, "--timeout": timeout,
            "--conv": conv != "auto", "--stock-only": stock_only, "--device": device != "cpu",
            "--workers": workers,
        }  # fmt: skip
        unused = [option for option, value in given.items() if value]
        if unused:
            raise LavatubeError("two traces are compared as they are", where=unused[0], remedy="leave the option out")
        report = parity_of_traces(source, other, program=program, explain=explain, out=out)
    else:
        if program is not None:
            raise LavatubeError("--program is for two traces", remedy="leave it out")
        engines = [name.strip() for name in against.split(",") if name.strip()] or None
        kept = [name.strip() for name in record.split(",") if name.strip()]
        with progress_bar("engines") as update:
            report = run_parity(
                source, data=data, against=engines, samples=samples, out=out, record=kept, conv=conv,
                stock_only=stock_only, timeout=timeout, workers=workers, device=device, explain=explain,
                data_dir=data_dir, progress=update,
            )  # fmt: skip
    if json:
        print_json(report.to_json())
    else:
        console().print(render_parity(report.to_json()))
    return 0 if report.equal else 1
