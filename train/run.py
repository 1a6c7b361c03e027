"""One training run, from a recipe to a TrainedNetwork and its folder."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import nn

from lavatube.errors import LavatubeError
from lavatube.files import require_writable
from lavatube.train.checkpoint import checkpoint_path, load_checkpoint, save_checkpoint
from lavatube.train.history import HISTORY, append_history, read_history, require_tensorboard, write_tensorboard
from lavatube.train.loop import Trainee, evaluate, refuse_non_finite_state, train_epoch
from lavatube.train.networks.network import SpikingNetwork
from lavatube.train.networks.spiking_layer import SpikingLayer
from lavatube.train.optimization import make_optimizer
from lavatube.train.processes import make_processes
from lavatube.train.recipe import Recipe, load_recipe
from lavatube.train.samples import EncodedData, prepare
from lavatube.train.teachers.load import teacher_accuracy
from lavatube.trained import TrainedNetwork, save_trained

VALIDATE_EVERY = 5
Progress = Callable[[int, int, float, float | None], object]  # epoch, epochs, loss, validation accuracy in % or None


def train(
    recipe: str | Path | Recipe,
    *,
    out: str | Path | None = None,
    resume: bool = True,
    device: str = "cpu",
    data_dir: Path | None = None,
    progress: Progress | None = None,
    overwrite: bool = False,
    tensorboard: bool = False,
    on_samples: Callable[[int, int], object] | None = None,
    teacher: nn.Module | None = None,
) -> TrainedNetwork:
    """Train a spiking network. The weights of the last epoch are kept; the test split decides nothing.

    recipe:    a Recipe, its YAML file, or the name of a shipped one.
    out:       run folder: checkpoint/ after every epoch; at the end model.safetensors and config.json. None: no files.
    resume:    go on from the checkpoint in `out`; on the CPU the result is that of an uninterrupted run, bit for bit.
    progress:  called after each epoch with (epoch, epochs, loss, validation accuracy in % or None).
    on_samples: called after each step with (samples seen, samples of the whole run).
    overwrite: train again where a finished run is; its files are there until the first epoch is done.
    tensorboard: write the curves of history.csv to `out`/tensorboard as well.
    teacher:   the module of a recipe's teacher of kind `module` or `onnx` (then as `read_onnx` returns it).
    raises:    LavatubeError for a bad recipe, data set or device, a finished folder, or a checkpoint of something else.
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    processes = make_processes(device, recipe.precision)
    folder = None if out is None else Path(out)
    if folder is not None:
        _refuse_finished(folder, overwrite)
        if processes.is_main:
            require_writable(folder, keep=False)
        if tensorboard:
            require_tensorboard()
    data = prepare(recipe, data_dir)
    trainee = Trainee(recipe, data, teacher).to(processes.device)
    optimizer = make_optimizer(trainee, recipe.optimizer)
    made_of = {"recipe": recipe.digest(), "data set": data.dataset.sha256()}
    if trainee.teacher is not None:
        made_of["teacher"] = trainee.teacher.to(processes.device).sha256()
    epochs, size = recipe.optimizer.epochs, len(data.dataset.train.label)
    start, before = 0, 0.0
    with nullcontext() if folder is None or not processes.is_main else only_run_in(folder):
        resume = resume and not (folder is not None and _refuse_finished(folder, overwrite))
        if folder is not None and resume and checkpoint_path(folder).is_file():
            state = checkpoint_path(folder)
            start, before = load_checkpoint(
                state, trainee, optimizer, made_of=made_of, epochs=epochs, scaler=processes.scaler
            )
            read_history(folder)  # refuses a damaged one before an epoch is spent
        began = time.perf_counter()
        seen = start * size

        def advance(samples: int) -> None:
            nonlocal seen
            seen += samples
            if on_samples is not None:
                on_samples(min(seen, epochs * size), epochs * size)

        for epoch in range(start, epochs):
            loss = train_epoch(trainee, recipe, data, optimizer, epoch, processes, advance)
            validate = (epoch + 1) % VALIDATE_EVERY == 0 or epoch + 1 == epochs
            accuracy = evaluate(trainee.network, data, data.dataset.validation).accuracy if validate else None
            refuse_non_finite_state(trainee, optimizer, f"epoch {epoch + 1}")
            if folder is not None and processes.is_main:
                if epoch == start == 0:
                    _remove_earlier(folder)
                spent = before + time.perf_counter() - began
                append_history(folder, epoch + 1, loss, accuracy, spent)
                if tensorboard:
                    write_tensorboard(folder)
                save_checkpoint(
                    checkpoint_path(folder), trainee, optimizer, epoch=epoch + 1, made_of=made_of, seconds=spent,
                    scaler=processes.scaler,
                )  # fmt: skip
            if progress is not None:
                progress(epoch + 1, epochs, loss, accuracy)
        network = _finish(trainee, recipe, data, seconds=before + time.perf_counter() - began)
        if folder is not None and processes.is_main:
            save_trained(network, folder)
            shutil.rmtree(checkpoint_path(folder).parent, ignore_errors=True)
        return network


def _refuse_finished(folder: Path, overwrite: bool) -> bool:
    """Whether a finished run is there. raises: LavatubeError if so, unless it is to be replaced."""
    finished = (folder / "config.json").exists()
    if finished and not overwrite:
        remedy = "choose another folder, or --overwrite to replace it"
        raise LavatubeError("this run is finished", where=str(folder), remedy=remedy)
    return finished


@contextmanager
def only_run_in(folder: Path) -> Iterator[None]:
    """Makes the folder and holds it against other trainings. raises: LavatubeError if one is at work there.

    The lock file stays beside what was written: to remove it might let two processes that are here already hold one
    each. Where nothing was, it and the folders made for it go.
    """
    absent = [each for each in (folder, *folder.parents) if not each.exists()]
    require_writable(folder)
    path = folder / ".training.lock"
    lock, known = FileLock(path), path.exists()
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise LavatubeError("another training is at work in this folder", where=str(folder)) from error
    except OSError as error:
        raise LavatubeError(f"cannot lock this folder ({error.strerror or error})", where=str(path)) from error
    try:
        yield
    finally:
        if not known and [each.name for each in folder.iterdir()] == [path.name]:
            with suppress(OSError):  # of a system that keeps open files
                path.unlink()
        lock.release()
        for each in absent:
            with suppress(OSError):  # something is in it
                each.rmdir()


def _remove_earlier(folder: Path) -> None:
    """What an earlier run left: the new one has come as far as to replace it."""
    shutil.rmtree(checkpoint_path(folder).parent, ignore_errors=True)
    for stale in (folder / "config.json", folder / "model.safetensors", folder / HISTORY):
        stale.unlink(missing_ok=True)


def _finish(trainee: Trainee, recipe: Recipe, data: EncodedData, *, seconds: float) -> TrainedNetwork:
    network = trainee.finalize()
    test = evaluate(network, data, data.dataset.test)
    tensors = {name: value.detach().cpu().numpy().copy() for name, value in network.state_dict().items()}
    metrics = {
        "validation_accuracy": evaluate(network, data, data.dataset.validation).accuracy,
        "test_accuracy": test.accuracy,
        "test_samples": len(data.dataset.test.label),
        "firing_rate": test.rates,
        "largest_bias": _largest_bias(network),
        "clipped_input_values": data.dataset.clipped,
        "seconds": round(seconds, 2),
        "device": str(next(network.parameters()).device),
        "torch": torch.__version__,
    }
    if trainee.teacher is not None:
        metrics["teacher_sha256"] = trainee.teacher.sha256()
        metrics["teacher_test_accuracy"] = teacher_accuracy(trainee.teacher, data, data.dataset.test)
    return TrainedNetwork(recipe.model_dump(mode="json"), tensors, metrics)


def _largest_bias(network: SpikingNetwork) -> dict[str, float]:
    """Per layer with neurons, the largest |bias| after folding the normalisation, in units of the current."""
    layers = {name: module for name, module in network.named_modules() if isinstance(module, SpikingLayer)}
    return {name: float(layer.folded()[1].abs().max()) for name, layer in layers.items() if layer.neurons}
