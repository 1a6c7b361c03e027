"""Runs: reproducible, resumable bit for bit, and clear about what they refuse."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from lavatube.errors import LavatubeError
from lavatube.files import read_tensors, write_tensors
from lavatube.train.checkpoint import checkpoint_path
from lavatube.train.datasets import catalog
from lavatube.train.datasets.dataset import Dataset, Split
from lavatube.train.history import read_history
from lavatube.train.loop import evaluate
from lavatube.train.networks.build import load_network
from lavatube.train.processes import Processes
from lavatube.train.recipe import Recipe, load_recipe
from lavatube.train.run import train
from lavatube.train.samples import prepare
from lavatube.trained import TrainedNetwork, load_trained

pytestmark = pytest.mark.usefixtures("tiny_data")
MakeRecipe = Callable[..., Recipe]


class Interrupted(Exception):
    pass


def interrupt_after(stop: int) -> Callable[..., None]:
    def progress(epoch: int, *rest: object) -> None:
        if epoch == stop:
            raise Interrupted

    return progress


def assert_equal(a: TrainedNetwork, b: TrainedNetwork) -> None:
    assert set(a.tensors) == set(b.tensors)
    for name, value in a.tensors.items():
        np.testing.assert_array_equal(value, b.tensors[name], err_msg=name)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_an_interrupted_run_resumes_to_the_same_bits(make_recipe: MakeRecipe, tmp_path: Path, optimizer: str) -> None:
    recipe = make_recipe(optimizer={"name": optimizer, "lr": 0.01, "epochs": 4, "batch_size": 32})
    straight = train(recipe)
    with pytest.raises(Interrupted):
        train(recipe, out=tmp_path / "run", progress=interrupt_after(2))
    assert checkpoint_path(tmp_path / "run").is_file()
    seen: list[int] = []
    resumed = train(recipe, out=tmp_path / "run", progress=lambda epoch, *rest: seen.append(epoch))
    assert seen == [3, 4]
    assert_equal(straight, resumed)
    assert_equal(straight, load_trained(tmp_path / "run"))
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        ".training.lock",
        "config.json",
        "history.csv",
        "model.safetensors",
    ]


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_bits(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    """By SIGKILL, in a process of its own, in the middle of an epoch."""
    recipe = make_recipe(
        ({"dense": {"units": 16}},), data={"name": "digits", "shift": 1}, num_steps=2,
        objective=["cross_entropy"], optimizer={"lr": 0.01, "epochs": 8, "batch_size": 128},
    )  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    out = tmp_path / "run"
    child = subprocess.Popen(
        [sys.executable, "-m", "lavatube", "train", str(tmp_path / "recipe.yaml"), "--out", str(out)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},  # or sums are added up in another order
    )  # fmt: skip
    while not checkpoint_path(out).is_file() and child.poll() is None:
        time.sleep(0.01)
    child.kill()
    assert child.wait(60) == -signal.SIGKILL
    assert not (out / "config.json").exists()
    seen: list[int] = []
    resumed = train(recipe, out=out, progress=lambda epoch, *rest: seen.append(epoch))
    assert 1 < seen[0] <= seen[-1] == 8
    assert_equal(train(recipe), resumed)


def test_the_scale_of_an_fp16_loss_resumes_too(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scales: list[float] = []

    def scaled(*unused: object) -> Processes:
        """A GPU's scaler, on the CPU; its scale is no power of two, so that every bit depends on it."""
        made = Processes()
        made.scaler = torch.amp.GradScaler("cpu", init_scale=3.0, growth_factor=1.7, growth_interval=5)
        update = made.scaler.update

        def updated() -> None:
            update()
            scales.append(made.scaler.get_scale())

        monkeypatch.setattr(made.scaler, "update", updated)
        return made

    monkeypatch.setattr("lavatube.train.run.make_processes", scaled)
    recipe = make_recipe(optimizer={"name": "sgd", "lr": 0.01, "epochs": 4, "batch_size": 32})
    straight, wanted = train(recipe), list(scales)
    scales.clear()
    with pytest.raises(Interrupted):
        train(recipe, out=tmp_path / "run", progress=interrupt_after(2))
    assert_equal(straight, train(recipe, out=tmp_path / "run"))
    assert scales == wanted
    assert len(set(wanted)) > 2


def test_the_curve_of_a_resumed_run_has_every_epoch_once_in_csv_and_tensorboard(
    make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed"
    )
    with pytest.raises(Interrupted):
        train(make_recipe(), out=tmp_path, progress=interrupt_after(2), tensorboard=True)
    train(make_recipe(), out=tmp_path, tensorboard=True)
    rows = read_history(tmp_path)
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [point.step for point in events.Scalars("loss")] == [1, 2, 3, 4]
    assert [point.value for point in events.Scalars("loss")] == pytest.approx([float(row["loss"]) for row in rows])


def test_a_restart_begins_at_the_first_epoch(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe()
    with pytest.raises(Interrupted):
        train(recipe, out=tmp_path, progress=interrupt_after(2))
    seen: list[int] = []
    train(recipe, out=tmp_path, resume=False, progress=lambda epoch, *rest: seen.append(epoch))
    assert seen == [1, 2, 3, 4]


def test_progress_counts_every_sample_of_the_run_also_after_a_resume(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    """What the time that is left is estimated from."""
    seen: list[tuple[int, int]] = []

    def stop(epoch: int, *rest: object) -> None:
        if epoch == 2 and len(seen) == 6:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(make_recipe(), out=tmp_path, progress=stop, on_samples=lambda *counts: seen.append(counts))
    train(make_recipe(), out=tmp_path, progress=stop, on_samples=lambda *counts: seen.append(counts))
    assert seen == [(32 * step, 4 * 96) for step in range(1, 13)]


def test_another_seed_gives_other_weights_and_the_global_generator_is_left_alone(make_recipe: MakeRecipe) -> None:
    import torch

    state = torch.get_rng_state()
    first = train(make_recipe(seed=0))
    assert torch.equal(torch.get_rng_state(), state)
    assert not np.array_equal(
        first.tensors["layer1.synapse.weight"], train(make_recipe(seed=1)).tensors["layer1.synapse.weight"]
    )


def test_a_checkpoint_of_another_recipe_is_refused(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(make_recipe(), out=tmp_path, progress=interrupt_after(1))
    with pytest.raises(LavatubeError, match="checkpoint of another recipe"):
        train(make_recipe(seed=1), out=tmp_path)


def test_a_damaged_checkpoint_is_one_error(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(make_recipe(), out=tmp_path, progress=interrupt_after(1))
    path = checkpoint_path(tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(LavatubeError, match="damaged"):
        train(make_recipe(), out=tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors, header: tensors.pop(next(n for n in tensors if n.startswith("optimizer/"))), "checksum"),
        (lambda tensors, header: header.update(epoch=99), "epoch 99"),
        (lambda tensors, header: header.pop("made_of"), "a checkpoint of an earlier version"),
        (lambda tensors, header: header["made_of"].update({"data set": "0"}), "checkpoint of another data set, exp"),
    ],
    ids=["optimizer", "epoch", "version", "data"],
)
def test_a_checkpoint_that_was_changed_is_refused(
    make_recipe: MakeRecipe, tmp_path: Path, change: Callable[..., object], message: str
) -> None:
    with pytest.raises(Interrupted):
        train(make_recipe(), out=tmp_path, progress=interrupt_after(1))
    tensors, header = read_tensors(checkpoint_path(tmp_path), kind="checkpoint")
    change(tensors, header)
    write_tensors(checkpoint_path(tmp_path), tensors, header)
    with pytest.raises(LavatubeError, match=message):
        train(make_recipe(), out=tmp_path)


def test_other_data_under_the_same_name_do_not_continue_a_run(
    make_recipe: MakeRecipe, tiny_data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Interrupted):
        train(make_recipe(), out=tmp_path, progress=interrupt_after(1))
    samples = tiny_data.train.samples.copy()
    samples[0, 0, 0, 0] ^= 1
    other = replace(tiny_data, train=Split(samples, tiny_data.train.label.copy()))
    monkeypatch.setitem(catalog.DATASETS, "tiny", lambda folder, num_steps: other)  # type: ignore[arg-type]
    with pytest.raises(LavatubeError, match="checkpoint of another data set, expected"):
        train(make_recipe(), out=tmp_path)


@pytest.mark.parametrize("row", [b"\xff\n", b"2,x,,1\n", b"\xc2\xb2,0.1,,1\n", b"2,0.1,,1,5\n", b"2\n"])
def test_a_damaged_history_is_one_error_before_an_epoch_is_spent(
    make_recipe: MakeRecipe, tmp_path: Path, row: bytes
) -> None:
    with pytest.raises(Interrupted):
        train(make_recipe(), out=tmp_path, progress=interrupt_after(1))
    history = tmp_path / "history.csv"
    history.write_bytes(history.read_bytes() + row)
    seen: list[int] = []
    with pytest.raises(LavatubeError, match="damaged history"):
        train(make_recipe(), out=tmp_path, progress=lambda epoch, *rest: seen.append(epoch))
    assert seen == []


def test_a_folder_that_cannot_be_locked_is_refused(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    (tmp_path / ".training.lock").mkdir()
    with pytest.raises(LavatubeError, match="cannot lock this folder"):
        train(make_recipe(), out=tmp_path)


def test_two_trainings_do_not_share_a_folder(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    def second(*progress: object) -> None:
        with pytest.raises(LavatubeError, match="another training is at work"):
            train(make_recipe(seed=1), out=tmp_path, resume=False)

    train(make_recipe(), out=tmp_path, progress=second)


def test_a_run_that_fails_in_its_first_epoch_leaves_the_finished_one(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    before = train(make_recipe(), out=tmp_path)
    wild = {"name": "sgd", "lr": 1e30, "epochs": 4, "batch_size": 32}
    with pytest.raises(LavatubeError, match="not finite"):
        train(make_recipe(optimizer=wild), out=tmp_path, overwrite=True)
    assert_equal(before, load_trained(tmp_path))


DIVERGES = {"name": "sgd", "lr": 1e30, "epochs": 3, "batch_size": 32}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": {"kind": "vgg"}}, "average pooling"),
        ({"optimizer": DIVERGES}, "not finite"),
        ({"data": {"name": "nothing"}}, "unknown data set"),
    ],
    ids=["network", "first epoch", "data"],
)
def test_a_run_that_is_refused_before_it_writes_leaves_no_file_and_no_folder(
    make_recipe: MakeRecipe, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    (tmp_path / "there").mkdir()
    for out in (tmp_path / "there", tmp_path / "made" / "for" / "it"):
        with pytest.raises(LavatubeError, match=message):
            train(make_recipe(**changes), out=out)
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


def test_a_run_that_stops_leaves_its_last_good_checkpoint_and_goes_on_from_it(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe()
    straight = train(recipe)
    with monkeypatch.context() as patched:
        patched.setattr("lavatube.train.loop.learning_rate", lambda settings, epoch: 1e30 if epoch == 2 else 0.01)
        patched.setattr("lavatube.train.run.make_optimizer", lambda model, _: torch.optim.SGD(model.parameters()))
        with pytest.raises(
            LavatubeError, match=r"layer\d.*epoch 3, step 2.*--restart: a checkpoint, .* last whole epoch"
        ):
            train(recipe, out=tmp_path)
        assert read_tensors(checkpoint_path(tmp_path), kind="checkpoint")[1]["epoch"] == 2
        with pytest.raises(LavatubeError, match=r"epoch 3, step 2"):  # resumed, it does the same again
            train(recipe, out=tmp_path)
    with pytest.raises(Interrupted):
        train(recipe, out=tmp_path, resume=False, progress=interrupt_after(2))
    with monkeypatch.context() as patched:
        patched.setattr("lavatube.train.objectives.cross_entropy.F.cross_entropy", lambda z, *_, **__: z.sum() * np.inf)
        with pytest.raises(LavatubeError, match=r"the objective \(epoch 3, step 1\): loss is not finite"):
            train(recipe, out=tmp_path)
    assert_equal(straight, train(recipe, out=tmp_path))


def test_an_fp16_checkpoint_without_the_scale_of_its_loss_says_so(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scaled(*unused: object) -> Processes:
        made = Processes()
        made.scaler = torch.amp.GradScaler("cpu")
        return made

    with pytest.raises(Interrupted):
        train(make_recipe(), out=tmp_path, progress=interrupt_after(1))
    monkeypatch.setattr("lavatube.train.run.make_processes", scaled)
    with pytest.raises(LavatubeError, match=r"earlier version.*no scale of an fp16 loss.*--restart"):
        train(make_recipe(), out=tmp_path)


def test_without_tensorboard_its_curves_are_refused_before_an_epoch_is_spent(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(LavatubeError, match=r"no tensorboard.*pip install"):
        train(make_recipe(), out=tmp_path / "run", tensorboard=True, progress=lambda *_: pytest.fail("trained"))
    assert not (tmp_path / "run").exists()


def test_a_config_of_another_recipe_than_was_trained_is_refused(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    train(make_recipe(), out=tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"num_steps": 4', '"num_steps": 9'))
    with pytest.raises(LavatubeError, match="another recipe than was trained"):
        load_trained(tmp_path)


def test_a_file_where_the_run_folder_should_be_is_refused_at_once(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    seen: list[int] = []
    with pytest.raises(LavatubeError, match="cannot write here"):
        train(make_recipe(), out=tmp_path / "run", on_samples=lambda done, total: seen.append(done))
    assert seen == []


def test_one_sample_per_step_without_places_is_refused_where_it_is_normalised(make_recipe: MakeRecipe) -> None:
    recipe = make_recipe(
        ({"dense": {"units": 8}},), optimizer={"lr": 0.01, "epochs": 1, "batch_size": 1}, data={"name": "tiny"}
    )
    with pytest.raises(LavatubeError, match=r"layer1.*at least 2 samples"):
        train(recipe)


def test_distillation_without_a_stage_is_refused(make_recipe: MakeRecipe) -> None:
    with pytest.raises(LavatubeError, match="needs a layer with neurons"):
        train(make_recipe((), objective=["cross_entropy", "self_distillation"]))


def test_a_finished_run_is_kept_unless_told_otherwise(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    train(make_recipe(), out=tmp_path)
    with pytest.raises(LavatubeError, match=r"finished.*--overwrite"):
        train(make_recipe(), out=tmp_path)
    other = train(make_recipe(seed=1), out=tmp_path, overwrite=True)
    assert_equal(other, load_trained(tmp_path))


@pytest.mark.parametrize(
    ("gradient", "normalization"),
    [("rate", "pooled"), ("bptt", "pooled"), ("online", "tse"), ({"kind": "rate", "form": "single_step"}, "tse")],
)
@pytest.mark.parametrize("distilled", [False, True])
def test_every_rule_trains_and_leaves_a_plain_network(
    make_recipe: MakeRecipe, tiny_data: Dataset, gradient: Any, normalization: str, distilled: bool
) -> None:
    objective = ["cross_entropy", "bias_limit", *([{"kind": "self_distillation", "channels": 8}] if distilled else [])]
    recipe = make_recipe(gradient=gradient, normalization=normalization, objective=objective)
    losses: list[float] = []
    trained = train(recipe, progress=lambda epoch, epochs, loss, accuracy: losses.append(loss))
    assert losses[-1] < losses[0]
    assert {name.split(".")[0] for name in trained.tensors} == {"layer1", "layer2", "layer3"}
    assert not any("recent" in name for name in trained.tensors)
    data = prepare(recipe)
    again = evaluate(load_network(trained, data.shape, data.classes), data, data.dataset.test)
    assert again.accuracy == trained.metrics["test_accuracy"]
    assert again.rates == trained.metrics["firing_rate"]


def test_weights_of_another_recipe_or_with_nan_are_refused(make_recipe: MakeRecipe) -> None:
    trained = train(make_recipe())
    wider = make_recipe(({"conv2d": {"channels": 5, "kernel": 3}},)).model_dump(mode="json")
    with pytest.raises(LavatubeError, match="does not fit"):
        load_network(TrainedNetwork(wider, trained.tensors, {}), (1, 8, 8), 10)
    broken = {name: np.full_like(value, np.nan) for name, value in trained.tensors.items()}
    with pytest.raises(LavatubeError, match="NaN"):
        load_network(TrainedNetwork(trained.recipe, broken, {}), (1, 8, 8), 10)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"kind": "chain", "layers": [{"dense": {"units": 4}}]}, "expected 10 units"),
        (
            {"kind": "chain", "layers": [{"conv2d": {"channels": 2, "kernel": 9}}, {"dense": {"units": 10}}]},
            "layer1.*kernel",
        ),
        (
            {"kind": "chain", "layers": [{"avg_pool2d": {"kernel": 3}}, {"dense": {"units": 10}}]},
            "average pooling, expected images .* whose last window ends at the edge",
        ),
        ({"kind": "vgg"}, "layer7.*average pooling, expected images .* whose last window ends at the edge"),
    ],
)
def test_a_network_that_does_not_fit_the_data_is_refused(
    make_recipe: MakeRecipe, network: dict[str, object], message: str
) -> None:
    with pytest.raises(LavatubeError, match=message):
        train(make_recipe(network=network))


def test_the_bias_limit_holds_the_folded_biases(make_recipe: MakeRecipe) -> None:
    settings = {"name": "adam", "lr": 0.01, "epochs": 30, "batch_size": 32}
    objective = ["cross_entropy", {"kind": "bias_limit", "limit": 0.3, "weight": 1.0}]
    limited = train(make_recipe(optimizer=settings, objective=objective)).metrics["largest_bias"]
    free = train(make_recipe(optimizer=settings, objective=["cross_entropy"])).metrics["largest_bias"]
    assert max(limited.values()) < 0.4 < max(free.values())


@pytest.mark.long
def test_three_seeds_of_the_digits_recipe_reach_their_accuracy() -> None:
    recipe = load_recipe("digits")
    runs = [train(recipe.model_copy(update={"seed": seed})) for seed in range(3)]
    assert np.mean([run.metrics["test_accuracy"] for run in runs]) >= 98.7
    assert max(max(run.metrics["largest_bias"].values()) for run in runs) < 0.6
