"""Several processes compute what one does; mixed precision trains; what is not here is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from lavatube.errors import LavatubeError
from lavatube.train.recipe import load_recipe
from lavatube.train.run import train
from lavatube.trained import TrainedNetwork, load_trained

# Sums over a batch are added up in another order by two processes, so weights differ by float32 rounding; over a few
# steps of plain SGD this grows to about 1e-6, while a norm or gradient that were not shared would show at 1e-2.
TOLERANCE = 2e-5
SINGLE = {"kind": "rate", "form": "single_step"}


def short_recipe(**changes: Any) -> dict[str, Any]:
    value = load_recipe("digits").model_dump(mode="json")
    layers = [{"conv2d": {"channels": 6, "kernel": 3, "stride": 2}}, {"dense": {"units": 16}}, {"dense": {"units": 10}}]
    optimizer = {"name": "sgd", "lr": 0.01, "epochs": 1, "batch_size": 250}
    network = {"kind": "chain", "layers": layers}
    return {**value, "network": network, "optimizer": optimizer, "num_steps": 2, **changes}


def idx(array: np.ndarray) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


@pytest.fixture
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MNIST's files with 1000 samples to train on: batches of 250 divide among two processes."""
    folder, rng = tmp_path / "mnist", np.random.default_rng(0)
    folder.mkdir()
    for part, count in (("train", 6000), ("t10k", 50)):
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(rng.integers(0, 256, (count, 8, 8))))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.arange(count) % 10))
    monkeypatch.setenv("LAVATUBE_DATA", str(tmp_path))


def by_torchrun(recipe: dict[str, Any], folder: Path, processes: int) -> TrainedNetwork:
    folder.mkdir()
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    command = [
        sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--master-port=0",
        "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0",
        "-m", "lavatube", "train", str(folder / "recipe.yaml"), "--out", str(folder / "run"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return load_trained(folder / "run")


@pytest.mark.slow
@pytest.mark.usefixtures("data_folder")
@pytest.mark.parametrize(
    ("gradient", "normalization"),
    [
        ("rate", "pooled"),
        pytest.param("bptt", "causal", marks=pytest.mark.long),
        pytest.param("online", "tse", marks=pytest.mark.long),
        pytest.param(SINGLE, "tse", marks=pytest.mark.long),
        pytest.param(SINGLE, "per_step", marks=pytest.mark.long),
        pytest.param("rate", "tse", marks=pytest.mark.long),
    ],
    ids=str,
)
def test_two_processes_train_what_one_does(tmp_path: Path, gradient: Any, normalization: str) -> None:
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    recipe = short_recipe(data={"name": "mnist", "shift": 1}, gradient=gradient, normalization=normalization)
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(recipe))
    train(load_recipe(tmp_path / "one.yaml"), out=tmp_path / "one")
    one, two = load_trained(tmp_path / "one"), by_torchrun(recipe, tmp_path / "two", 2)
    assert set(one.tensors) == set(two.tensors)
    for name, value in one.tensors.items():
        np.testing.assert_allclose(two.tensors[name], value, rtol=0, atol=TOLERANCE, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("gradient", ["rate", SINGLE, "bptt", "online"], ids=str)
@pytest.mark.parametrize("normalization", ["pooled", "causal", "per_step", "running", "tse", None])
def test_bf16_trains_and_float32_state_stays_float32(gradient: Any, normalization: str | None) -> None:
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    from lavatube.train.recipe import parse_recipe

    if normalization == "pooled" and gradient not in ("rate", "bptt"):
        pytest.skip("pooled statistics need all timesteps")
    losses: list[float] = []
    changes: dict[str, Any] = {"gradient": gradient, "normalization": normalization, "precision": "bf16"}
    if normalization is None:
        changes["objective"] = ["cross_entropy"]
    recipe = parse_recipe(short_recipe(**changes), where="test")
    trained = train(recipe, progress=lambda epoch, epochs, loss, accuracy: losses.append(loss))
    assert np.isfinite(losses).all()
    assert {value.dtype for value in trained.tensors.values()} == {np.dtype(np.float32)}


def test_fp16_on_a_cpu_is_refused_and_not_trained_in_float32() -> None:
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    with pytest.raises(LavatubeError, match=r"precision fp16 needs a GPU, expected bf16 or float32, got cpu"):
        train(load_recipe("digits").model_copy(update={"precision": "fp16"}))


def test_a_device_that_is_not_here_is_refused() -> None:
    with pytest.raises(LavatubeError, match="device"):
        train("digits", device="cuda:99")
