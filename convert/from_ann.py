"""A trained artificial network (from ONNX, say) -> a run folder with its spiking twin, ready for `quantize`."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from lavatube.convert.ann_chain import AnnLayer, ann_chain
from lavatube.convert.from_onnx import read_onnx
from lavatube.errors import LavatubeError
from lavatube.files import require_writable, sha256_of_file
from lavatube.train.datasets.dataset import Split
from lavatube.train.loop import evaluate
from lavatube.train.networks.build import build_network
from lavatube.train.networks.network import SpikingNetwork
from lavatube.train.networks.spiking_layer import SpikingLayer
from lavatube.train.recipe import parse_recipe
from lavatube.train.samples import EncodedData, prepare
from lavatube.trained import TrainedNetwork, save_trained

SIGNED = {"output": "signed", "memory_gate": True, "v_threshold_low": 0.0}
CALIBRATION = 512  # samples of the training split, of which the thresholds come


def convert_onnx(
    path: Path | str,
    *,
    data: str,
    num_steps: int = 8,
    out: Path | str | None = None,
    signed: bool = True,
    percentile: float = 99.9,
    data_dir: Path | None = None,
    overwrite: bool = False,
) -> TrainedNetwork:
    """Convert a rectified feed-forward network into integrate-and-fire neurons, without training.

    Each layer's threshold is a percentile of its activation on training samples (not above a Clip's); neurons are reset
    by subtraction and start from half the threshold; `signed`: they take back a spike too many (see `Qcfs`). The run
    folder's recipe (`gradient: qcfs`) describes the network in full: the ONNX file is not needed any more.

    data:   the data set that it classifies; it saw samples whose largest value is 1.
    raises: UnsupportedError for what is no chain (see `ann_chain`); LavatubeError for a network that does not fit the
            data, a percentile outside 0..100, or a finished run in `out` without overwrite.
    """
    path, folder = Path(path), None if out is None else Path(out)
    if not 0 < percentile <= 100:
        raise LavatubeError("percentile", where="convert", expected="above 0, at most 100", got=str(percentile))
    if folder is not None:
        require_writable(folder)
        if (folder / "config.json").exists() and not overwrite:
            remedy = "choose another folder, or --overwrite"
            raise LavatubeError("this run is finished", where=str(folder), remedy=remedy)
    ann = read_onnx(path)
    layers = ann_chain(ann, where=str(path))
    neuron = {"decay": 1.0, "reset": "subtract", "v_initial": 0.5, **(SIGNED if signed else {})}
    recipe = parse_recipe(
        {
            "name": re.sub(r"[^A-Za-z0-9._-]", "_", f"converted-{path.stem}"), "num_steps": num_steps,
            "data": {"name": data}, "network": {"kind": "chain", "layers": _rows(layers)}, "normalization": None,
            "neuron": neuron, "gradient": {"kind": "qcfs", "levels": num_steps},
            "optimizer": {"lr": 1e-3, "epochs": 1, "batch_size": 64},
        },
        where=str(path),
    )  # fmt: skip
    encoded = prepare(recipe, data_dir)
    if tuple(ann.meta["input_shape"]) != encoded.shape:
        got = str(tuple(ann.meta["input_shape"]))
        raise LavatubeError("a network for other samples", where=str(path), expected=str(encoded.shape), got=got)
    network = build_network(recipe, encoded.shape, encoded.classes).eval()
    whole = encoded.input_scale * ((1 << encoded.message_bits) - 1)
    thresholds = _thresholds(ann, layers, encoded, whole, percentile)
    _give_weights(network, layers, [1 / whole, *thresholds, 1.0])
    test = evaluate(network, encoded, encoded.dataset.test)
    made = TrainedNetwork(
        recipe.model_dump(mode="json"),
        {name: value.detach().numpy().copy() for name, value in network.state_dict().items()},
        {
            "ann_test_accuracy": _accuracy(ann, encoded, encoded.dataset.test, whole),
            "test_accuracy": test.accuracy,
            "validation_accuracy": evaluate(network, encoded, encoded.dataset.validation).accuracy,
            "firing_rate": test.rates,
            "thresholds": thresholds,
            "source_sha256": sha256_of_file(path),
        },
    )
    if folder is not None:
        save_trained(made, folder)
    return made


def _rows(layers: list[AnnLayer]) -> list[dict[str, Any]]:
    """A chain's layers as a recipe has them."""
    rows: list[dict[str, Any]] = []
    for layer in layers:
        if layer.pool > 1:
            rows.append({"avg_pool2d": {"kernel": layer.pool}})
        synapse = layer.synapse
        if isinstance(synapse, nn.Linear):
            rows.append({"dense": {"units": synapse.out_features}})
            continue
        window = {"kernel": synapse.kernel_size[0], "stride": synapse.stride[0], "padding": int(synapse.padding[0])}
        rows.append({"conv2d": {"channels": synapse.out_channels, **window}})
    return rows


@torch.no_grad()
def _thresholds(
    ann: fx.GraphModule, layers: list[AnnLayer], data: EncodedData, whole: float, percentile: float
) -> list[float]:
    """Of every layer but the last, in the units of its activation."""
    seen: dict[str, np.ndarray] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
            seen[name] = output.numpy().astype(np.float64)

        return hook

    handles = [ann.get_submodule(each.activation).register_forward_hook(keep(each.activation)) for each in layers[:-1]]
    samples, _ = next(data.batches(data.dataset.train, CALIBRATION, torch.device("cpu")))
    ann(data.as_floats(samples).mean(0) / whole)
    for handle in handles:
        handle.remove()
    found = [min(float(np.percentile(seen[each.activation], percentile)), each.cap) for each in layers[:-1]]
    for layer, threshold in zip(layers, found, strict=False):
        if threshold <= 0:
            what = "a layer that is silent on the training samples has no threshold"
            raise LavatubeError(what, where=layer.activation, remedy="give a larger percentile, or the right data")
    return found


@torch.no_grad()
def _give_weights(network: SpikingNetwork, layers: list[AnnLayer], amplitudes: list[float]) -> None:
    """amplitudes: of the input, of every population, and 1 for the read-out: one event is worth so much."""
    targets = [module for module in network.children() if isinstance(module, SpikingLayer)]
    for target, layer, into, out in zip(targets, layers, amplitudes[:-1], amplitudes[1:], strict=True):
        weight, bias = layer.folded()
        target.synapse.weight.copy_(weight * (into / out))
        assert target.synapse.bias is not None
        target.synapse.bias.copy_(bias / out)


@torch.no_grad()
def _accuracy(ann: nn.Module, data: EncodedData, split: Split, whole: float) -> float:
    """Of the artificial network, in %."""
    correct = 0
    for events, labels in data.batches(split, 256, torch.device("cpu")):
        correct += int((ann(data.as_floats(events).mean(0) / whole).argmax(-1) == labels).sum())
    return 100.0 * correct / len(split.label)
