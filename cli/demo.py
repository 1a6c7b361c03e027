"""lavatube demo"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from lavatube.cli.options import Json, Overwrite, Timeout

RECIPE = "digits"
ARTIFACTS = (
    "config.json", "model.safetensors", "quantized.safetensors", "model.nir", "program.safetensors", "input.npz",
    "parity.json", "counts.json", "energy.json", "report.html",
)  # fmt: skip


@dataclass(frozen=True)
class Stage:
    """One stage: done when its artifact exists and is that of the artifact before; artifacts are whole or absent."""

    title: str
    artifact: str
    work: Callable[[Path], str]
    fits: Callable[[Path], bool] | None = None  # default: made from the file before it

    def is_done(self, out: Path) -> bool:
        from lavatube.convert.lineage import is_current

        return (out / self.artifact).exists() and (self.fits(out) if self.fits else is_current(out, self.artifact))


def demo(
    out: Annotated[
        Path, typer.Option("--out", help="Run folder; the same command on it goes on where it stopped.")
    ] = Path("runs/demo"),
    timeout: Timeout = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> int:
    """The main job on real digits: train, quantize, NIR, Lava, every spike compared, counts and energy."""
    from lavatube.cli.output import print_json, say
    from lavatube.errors import LavatubeError
    from lavatube.files import read_json

    if overwrite:
        _clear(out)
    stages = (
        Stage("train: rate-based backpropagation with self-distillation", "config.json", _train, _fits_recipe),
        Stage("quantize: Brevitas, 8 bits, integer timestep", "quantized.safetensors", _quantize),
        Stage("export: NIR", "model.nir", _export),
        Stage("lower: Loihi program", "program.safetensors", _lower),
        Stage("samples: the test split", "input.npz", _samples, _fits_always),
        Stage(
            "parity: torch, reference, fast, Lava", "parity.json", lambda folder: _parity(folder, timeout), _fits_parity
        ),
        Stage("energy: counts and price tables", "energy.json", _energy, _fits_energy),
        Stage("report: one page of all of it", "report.html", _report, _fits_report),
    )
    if all(stage.is_done(out) for stage in stages):
        raise LavatubeError("this demo is finished", where=str(out), remedy="choose another --out, or give --overwrite")
    seconds: dict[str, float] = {}
    for number, stage in enumerate(stages, 1):
        head = f"[{number}/{len(stages)}] {stage.title}"
        if stage.is_done(out):
            say(f"{head}: done before")
            continue
        say(head)
        started = time.perf_counter()
        result = stage.work(out)
        seconds[stage.title.split(":")[0]] = round(time.perf_counter() - started, 2)
        say(f"      {result}  ({seconds[stage.title.split(':')[0]]:.1f} s)")
    parity = read_json(out / "parity.json", kind="parity.json")
    if json:
        print_json({"folder": str(out), "seconds": seconds, "parity": parity, **_artifacts(out)})
    else:
        _print(out)
    return 0 if parity["equal"] else 1


def _fits_recipe(out: Path) -> bool:
    from lavatube.errors import LavatubeError
    from lavatube.train.recipe import load_recipe
    from lavatube.trained import load_trained

    if dict(load_trained(out).recipe) != load_recipe(RECIPE).model_dump(mode="json"):
        raise LavatubeError(
            "the run here is not the demo's", where=str(out), remedy="choose another --out, or --overwrite"
        )
    return True


def _fits_always(out: Path) -> bool:
    return True


def _fits_parity(out: Path) -> bool:
    return _of_this_program(out, "parity")


def _fits_energy(out: Path) -> bool:
    return _of_this_program(out, "energy") and _of_this_program(out, "counts")


def _fits_report(out: Path) -> bool:
    """Whether the page is younger than what it shows."""
    made = (out / "report.html").stat().st_mtime_ns
    return all((out / name).stat().st_mtime_ns <= made for name in ARTIFACTS if (out / name).exists())


def _of_this_program(out: Path, name: str) -> bool:
    from lavatube.files import read_json
    from lavatube.program_file import load_program, program_sha256

    made_from = read_json(out / f"{name}.json", kind=f"{name}.json").get("program_sha256")
    return bool(made_from == program_sha256(load_program(out / "program.safetensors")))


def _clear(out: Path) -> None:
    import shutil

    for name in ARTIFACTS:
        (out / name).unlink(missing_ok=True)
    shutil.rmtree(out / "checkpoint", ignore_errors=True)


def _artifacts(out: Path) -> dict[str, Any]:
    from lavatube.files import read_json

    return {name: read_json(out / f"{name}.json", kind=f"{name}.json") for name in ("counts", "energy")}


def _print(out: Path) -> None:
    from lavatube.cli.output import console
    from lavatube.files import read_json
    from lavatube.sim.energy_tables import render_counts, render_energy
    from lavatube.sim.tables import render_parity

    screen = console()
    for name, render in (("counts", render_counts), ("energy", render_energy), ("parity", render_parity)):
        screen.print(render(read_json(out / f"{name}.json", kind=f"{name}.json")))
    print(f"every artifact is in {out}; look at {out / 'report.html'}")


def _train(out: Path) -> str:
    from lavatube.cli.output import progress_bar
    from lavatube.train.run import train

    with progress_bar("training") as update:
        network = train(
            RECIPE,
            out=out,
            progress=lambda epoch, epochs, loss, accuracy: update(epoch, epochs, f"epoch {epoch}/{epochs}"),
        )
    return f"float test accuracy {network.metrics['test_accuracy']:.2f} %"


def _quantize(out: Path) -> str:
    from lavatube.cli.output import progress_bar
    from lavatube.convert.quantize import quantize

    with progress_bar("fine-tuning") as update:
        network = quantize(out, out=out, overwrite=True, progress=update)
    metrics = network.metrics
    return f"integer test accuracy {metrics['test_accuracy']:.2f} % (float {metrics['float_test_accuracy']:.2f} %)"


def _export(out: Path) -> str:
    from lavatube.convert.export import export

    graph = export(out)
    return f"{len(graph.nodes)} nodes, floats exactly integer x scale"


def _lower(out: Path) -> str:
    from lavatube.deploy.lower import lower

    program = lower(out / "model.nir", out=out / "program.safetensors")
    neurons = sum(int(node.bias_mant.size) for node in program.neurons)
    return f"{neurons:,} neurons, no register can overflow (proven for every input)"


def _samples(out: Path) -> str:
    from lavatube.inputs import save_inputs
    from lavatube.program_file import load_program
    from lavatube.sim.parity_samples import samples_for

    batch = samples_for(load_program(out / "program.safetensors"), out)
    save_inputs(batch, out / "input.npz")
    return f"{batch.batch} samples that no training saw"


def _parity(out: Path, timeout: float | None) -> str:
    from lavatube.cli.output import progress_bar
    from lavatube.sim.parity import parity

    with progress_bar("engines") as update:
        report = parity(out, timeout=timeout, data=out / "input.npz", explain=True, progress=update)
    verdict = "every spike equal" if report.equal else "DIFFERENT: see below"
    return f"{report.neuron_steps:,} neuron-steps on {len(report.engines) + 1} engines: {verdict}"


def _energy(out: Path) -> str:
    from lavatube.program_file import load_program
    from lavatube.sim.counts import count, count_cores, save_counts
    from lavatube.sim.energy import energy, save_energy
    from lavatube.sim.placing import place
    from lavatube.sim.run import run

    program = load_program(out / "program.safetensors")
    trace = run(program, out / "input.npz", backend="fast")
    placement, _ = place(program)
    activity = None if placement is None else count_cores(program, trace, placement)
    counts = replace(count(program, trace), traffic=None if activity is None else activity.traffic)
    save_counts(counts, out / "counts.json")
    estimate = energy(counts, target=program.target, activity=activity)
    save_energy(estimate, out / "energy.json")
    return "simulated counts, estimated joules"


def _report(out: Path) -> str:
    from lavatube.sim.report.page import report

    path = report(out)
    return f"{path.stat().st_size / 1e3:,.0f} kB, nothing loaded from anywhere"
