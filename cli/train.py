"""lavatube train"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from lavatube.cli.options import DataDir, Device, Json, Overwrite


def train(
    recipe: Annotated[str, typer.Argument(help="A YAML file, or the name of a shipped recipe (see --list).")] = "",
    out: Annotated[Path | None, typer.Option("--out", help="Run folder; default runs/NAME.")] = None,
    resume: Annotated[bool, typer.Option("--resume/--restart", help="Go on from the checkpoint in the folder.")] = True,
    list_: Annotated[
        bool, typer.Option("--list", help="Show the shipped recipes, what they reach, and whether they deploy.")
    ] = False,
    print_: Annotated[
        bool, typer.Option("--print", help="Print the recipe, to be saved and changed: train NAME --print > mine.yaml.")
    ] = False,
    seed: Annotated[int | None, typer.Option("--seed", help="Replace the recipe's seed.")] = None,
    device: Device = "cpu",
    data_dir: DataDir = None,
    overwrite: Overwrite = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Curves in TensorBoard as well as CSV.")] = False,
    json: Json = False,
) -> int:
    """Train a spiking network by a recipe. Writes model.safetensors and config.json; an interrupted run resumes."""
    from lavatube.cli.output import print_json, print_metrics, progress_bar, say
    from lavatube.errors import LavatubeError
    from lavatube.train.recipe import list_recipes, load_recipe, parse_recipe
    from lavatube.train.recipe_file import recipe_text
    from lavatube.train.run import train as train_recipe
    from lavatube.train.teachers.kinds import OnnxTeacher

    if list_:
        from lavatube.cli.recipe_table import print_recipes

        print_recipes(as_json=json)
        return 0
    if not recipe:
        raise LavatubeError("no recipe", expected="a YAML file or one of: " + ", ".join(list_recipes()))
    loaded = load_recipe(recipe)
    if print_:
        flags = {"--out": out is not None, "--seed": seed is not None, "--json": json}
        if given := [flag for flag, is_given in flags.items() if is_given]:
            raise LavatubeError("--print shows the file as it is written", expected="no " + ", ".join(given))
        print(recipe_text(recipe), end="")
        return 0
    if seed is not None:
        loaded = parse_recipe({**loaded.model_dump(mode="json"), "seed": seed}, where="--seed")
    folder = out or Path("runs") / loaded.name
    teacher = None
    if isinstance(loaded.teacher, OnnxTeacher):
        from lavatube.convert.from_onnx import read_onnx

        teacher = read_onnx(loaded.teacher.file)
    note = "first epoch"

    def after_epoch(epoch: int, epochs: int, loss: float, accuracy: float | None) -> None:
        nonlocal note
        note = f"epoch {epoch}/{epochs}, loss {loss:.3f}"
        note += f", validation {accuracy:.1f} %" if accuracy is not None else ""

    with progress_bar("training") as update:
        network = train_recipe(
            loaded,
            out=folder,
            resume=resume,
            device=device,
            overwrite=overwrite,
            tensorboard=tensorboard,
            data_dir=data_dir,
            progress=after_epoch,
            on_samples=lambda done, total: update(done, total, note),
            teacher=teacher,
        )
    if int(os.environ.get("RANK", "0")):
        return 0  # of several processes, the first one reports
    say(f"wrote {folder / 'model.safetensors'}")
    if json:
        print_json({"folder": str(folder), "metrics": dict(network.metrics)})
    else:
        print_metrics(network.metrics)
    return 0
