"""Pooling between populations: one synapse with the next, in every engine, or refused before anything trains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from exported_networks import exported
from hypothesis import given, settings
from hypothesis import strategies as st

from lavatube.convert.export import export
from lavatube.convert.fold import fold, pooled
from lavatube.convert.from_nir import read_quantized_nir
from lavatube.convert.quantize import quantize
from lavatube.deploy.lower import lower
from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.program import Conv2dNode
from lavatube.sim.parity import parity
from lavatube.train.exact_sums import exact_sums
from lavatube.train.networks.build import build_network
from lavatube.train.networks.pooling import SpikePool
from lavatube.train.recipe import Recipe
from lavatube.train.run import train

MakeRecipe = Callable[..., Recipe]
FIRST, LAST = {"conv2d": {"channels": 4, "kernel": 3, "padding": 1}}, {"dense": {"units": 10}}
PADDED, BARE = ({"conv2d": {"channels": 5, "kernel": 3, "padding": padding}} for padding in (1, 0))
CHAINS: dict[str, list[dict[str, Any]]] = {
    "averages": [FIRST, {"avg_pool2d": {"kernel": 2}}, PADDED, {"avg_pool2d": {"kernel": 8}}, LAST],
    "sums": [FIRST, {"sum_pool2d": {"kernel": 2}}, PADDED, {"sum_pool2d": {"kernel": 2, "stride": 3}}, LAST],
    "overlapping": [FIRST, {"avg_pool2d": {"kernel": 4, "stride": 2}}, BARE,
                    {"avg_pool2d": {"kernel": 3, "stride": 1}}, LAST],
}  # fmt: skip
NETWORKS: dict[str, dict[str, Any]] = {
    **{name: {"kind": "chain", "layers": layers} for name, layers in CHAINS.items()},
    "shortcut": {"kind": "resnet", "depth": 6, "width": 3, "stem": "imagenet"},
}


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_pool_and_what_follows_are_one_synapse_in_integers(data: st.DataObject) -> None:
    draw = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    pool, windows, c, o = SpikePool(draw(1, 4), draw(1, 4)), (draw(1, 4), draw(1, 4)), draw(1, 3), draw(1, 3)
    shape = (c, *((n - 1) * pool.stride + pool.kernel for n in windows))
    rng = np.random.default_rng(draw(0, 999))
    events = torch.tensor(rng.integers(-3, 4, (2, *shape)))
    sums = exact_sums(events, pool)
    assert torch.equal(sums.double(), SpikePool(pool.kernel, pool.stride, sums=True)(events.double()).round())
    weight = rng.integers(-9, 10, (o, c, *(draw(1, n) for n in windows)))
    stride, padding = draw(1, 2), 0 if pool.overlaps else draw(0, 2)
    ours = F.conv2d(events.double(), torch.tensor(pool.fused_kernel(weight)).double(), None,
                    stride * pool.stride, padding * pool.stride)  # fmt: skip
    assert torch.equal(ours, F.conv2d(sums.double(), torch.tensor(weight).double(), None, stride, padding))
    dense = torch.tensor(rng.integers(-9, 10, (o, sums[0].numel())))
    fused = torch.tensor(pool.fused_columns(dense.numpy(), shape))
    assert torch.equal(events.flatten(1) @ fused.T, sums.flatten(1) @ dense.T)


def deployed(recipe: Recipe, folder: Path, epochs: int) -> None:
    train(recipe, out=folder)
    quantize(folder, epochs=epochs)
    export(folder)
    lower(folder / "model.nir", out=folder / "program.safetensors")


def small(make_recipe: MakeRecipe, kind: str) -> Recipe:
    return make_recipe(
        network=NETWORKS[kind], num_steps=3, neuron={"decay": 0.5, "v_threshold": 0.4}, data={"name": "tiny"},
        objective=["cross_entropy", {"kind": "self_distillation", "channels": 4}],
        optimizer={"lr": 0.02, "epochs": 2, "batch_size": 32},
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", NETWORKS)
def test_a_pooled_network_deploys_with_every_spike_equal(tiny_recipe: MakeRecipe, kind: str, tmp_path: Path) -> None:
    deployed(small(tiny_recipe, kind), tmp_path, epochs=1)
    graph, program = read_quantized_nir(tmp_path / "model.nir").graph, lower(tmp_path / "model.nir")
    pools = [name for name, node in graph.nodes.items() if isinstance(node, nir.SumPool2d)]
    assert len(pools) == {"averages": 2, "sums": 2, "overlapping": 0, "shortcut": 2}[kind]
    assert len(program.synapses) == len(program.neurons) + 1 + 2 * (kind == "shortcut")
    assert parity(tmp_path, against=["torch", "fast"], record=["u", "v"]).equal


@pytest.mark.slow
def test_pools_and_a_pooled_identity_are_equal_in_lava(tiny_recipe: MakeRecipe, tmp_path: Path) -> None:
    deployed(small(tiny_recipe, "shortcut"), tmp_path, epochs=0)
    assert parity(tmp_path, against=["lava"], samples=3, record=["u", "v"]).equal


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_folded_weights_on_events_are_the_networks_on_pooled_events(make_recipe: MakeRecipe, kind: str) -> None:
    network = build_network(make_recipe(network=NETWORKS[kind], data={"name": "digits"}), (1, 16, 16), 10)
    network = network.double().eval()
    modules = {name.replace(".", "_"): module for name, module in network.named_modules()}
    for layer in fold(network, 1.0):
        for synapse in layer.synapses:
            geometry, events = synapse.geometry, torch.rand(2, *synapse.geometry["in_shape"]).double()
            weight, seen = torch.tensor(synapse.weight), events
            if "pool" in geometry:
                seen = SpikePool(*geometry["pool"], sums=True)(events)
            if geometry["kind"] == "scale":
                ours, theirs = seen * weight.reshape(-1, 1, 1), SpikePool(2, 2)(events)
            else:
                owner = modules[synapse.name]
                conv = geometry["kind"] == "conv2d"
                ours = (F.conv2d(seen, weight, None, *(tuple(geometry[key]) for key in ("stride", "padding"))) if conv
                        else seen.flatten(1) @ weight.T)  # fmt: skip
                before = SpikePool(2, 2)(events) if synapse.name == "stages_0_0_first" else events
                zero = owner.current(torch.zeros_like(before))
                gain = 1.0 if owner.norm is None else (1 + owner.norm.eps) ** -0.5
                theirs = (owner.current(before) - zero) * gain
            torch.testing.assert_close(ours, theirs)


def test_weights_in_a_file_are_those_on_sums_and_one_word_in_the_program(tmp_path: Path) -> None:
    exported("pooled", tmp_path / "m.nir")
    node = lower(tmp_path / "m.nir").synapses[1]
    assert isinstance(node, Conv2dNode)
    assert (node.weight.shape, node.stride, node.padding) == ((6, 4, 6, 6), (2, 2), (2, 2))


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [((2, 3), (2, 3), (0, 0)), ((3, 3), (1, 1), (0, 0)), ((2, 2), (2, 2), (1, 1)),
                                      ((4, 4), (4, 4), (0, 0)), ((9, 9), (9, 9), (0, 0))],
)  # fmt: skip
def test_other_sums_in_a_changed_file_are_refused(
    tmp_path: Path, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> None:
    exported("pooled", tmp_path / "m.nir")
    graph = nir.read(str(tmp_path / "m.nir"))
    graph.nodes["layer1_lif_sum2"] = nir.SumPool2d(*(np.array(pair) for pair in (kernel, stride, padding)))
    changed = nir.NIRGraph(graph.nodes, graph.edges, metadata=graph.metadata, type_check=False)
    nir.write(str(tmp_path / "m.nir"), changed)
    with pytest.raises(LavatubeError):
        lower(tmp_path / "m.nir")


def test_a_pool_is_refused_where_a_synapse_cannot_have_it(make_recipe: MakeRecipe) -> None:
    def built(*layers: dict[str, Any]) -> None:
        build_network(make_recipe(network={"kind": "chain", "layers": [FIRST, *layers, LAST]}), (1, 8, 8), 10)

    with pytest.raises(LavatubeError, match=r"layer2: average pooling, expected images .* edge, got 3 every 3"):
        built({"avg_pool2d": {"kernel": 3}})
    with pytest.raises(LavatubeError, match="windows that overlap, then a convolution with padding"):
        built({"sum_pool2d": {"kernel": 4, "stride": 2}}, PADDED)
    with pytest.raises(LavatubeError, match="conv2d, dense, avg_pool2d, sum_pool2d"):
        built({"max_pool2d": {"kernel": 2}})
    with pytest.raises(LavatubeError, match="multiply their kernels"):
        built({"avg_pool2d": {"kernel": 2}}, {"sum_pool2d": {"kernel": 2}})


def test_an_identity_behind_overlapping_windows_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="overlapping"):
        pooled(SpikePool(3, 2), np.ones((2, 1, 1, 1)), {"kind": "scale", "in_shape": [2, 7, 7]})
