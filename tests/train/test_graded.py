"""Graded spikes with a limit (ReverB-SNN): what trains, what deploys, and that no payload or sum can overflow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lavatube.bounds import bound_program
from lavatube.convert.export import export
from lavatube.convert.quantize import distance, quantize
from lavatube.convert.registers import FoldedLayer, FoldedNeuron, FoldedSynapse, choose_registers
from lavatube.deploy.lower import lower
from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.program import LoihiProgram
from lavatube.sim.parity import parity
from lavatube.targets import refuse_what_target_lacks
from lavatube.train.datasets.dataset import Dataset
from lavatube.train.networks.build import load_network
from lavatube.train.neuron import NeuronSpec, fire, fire_by_autograd, partials
from lavatube.train.neuron_run import run_through_time
from lavatube.train.quantized import QuantizedModule
from lavatube.train.recipe import Recipe
from lavatube.train.run import train
from lavatube.train.samples import prepare
from lavatube.trained import load_trained

MakeRecipe = Callable[..., Recipe]
GRADED = {"decay": 0.5, "output": "graded", "graded_max": 4.0, "payload_bits": 6, "surrogate": "rectangular"}
CONV = {"conv2d": {"channels": 4, "kernel": 3, "padding": 1}}


def deployed(make_recipe: MakeRecipe, folder: Path, epochs: int = 1, **changes: Any) -> LoihiProgram:
    recipe = make_recipe(
        (CONV, CONV, CONV), neuron=GRADED, weight={"kind": "binary", "per": "layer", "scale": "learnt"},
        objective=["cross_entropy"], num_steps=3, optimizer={"lr": 0.02, "epochs": 3, "batch_size": 32}, **changes,
    )  # fmt: skip
    train(recipe, out=folder)
    quantize(folder, epochs=epochs)
    export(folder)
    return lower(folder / "model.nir", out=folder / "program.safetensors")


def test_a_graded_spike_is_nothing_or_above_the_threshold_and_at_most_its_limit() -> None:
    spec = NeuronSpec(decay=0.5, output="graded", graded_max=3.0, v_threshold=0.8)
    current = torch.randn(5, 1000, generator=torch.Generator().manual_seed(0)) * 2
    s = run_through_time(current, spec)
    spiked = s[s != 0]
    assert (float(spiked.min()) > 0.8, float(spiked.max())) == (True, pytest.approx(2.4))
    silent = run_through_time(current, NeuronSpec(decay=0.5, output="graded", v_threshold=1e6))
    assert not silent.any()


@pytest.mark.parametrize("detach_reset", [True, False])
def test_partials_of_limited_spikes_are_those_of_autograd(detach_reset: bool) -> None:
    spec = NeuronSpec(decay=0.5, output="graded", graded_max=2.0, detach_reset=detach_reset)
    u = torch.linspace(-1, 4, 101, dtype=torch.float64).requires_grad_()
    s, v = fire_by_autograd(spec, u)
    assert all(torch.equal(a, b) for a, b in zip((s, v), fire(spec, u), strict=True))
    for value, expected in zip((s, v), partials(spec, u.detach(), s.detach()), strict=True):
        (gradient,) = torch.autograd.grad(value.sum(), u, retain_graph=True)
        assert torch.allclose(gradient, torch.as_tensor(expected).expand_as(gradient))


def test_one_magnitude_per_layer_folds_out_exactly() -> None:
    """Real-valued spikes are homogeneous: alpha of a layer can go into the thresholds behind it and one final gain."""
    generator = torch.Generator().manual_seed(1)
    signs = [torch.randn(8, 8, generator=generator, dtype=torch.float64).sign() for _ in range(3)]
    alphas, theta = [0.3, 0.7, 1.9], 0.5
    current = torch.rand(6, 8, generator=generator, dtype=torch.float64) * 3

    def run(scales: list[float], thresholds: list[float]) -> torch.Tensor:
        x = current
        for sign, scale, threshold in zip(signs, scales, [*thresholds, None], strict=True):
            x = x @ sign.T * scale
            if threshold is not None:
                x = run_through_time(x, NeuronSpec(decay=0.5, output="graded", graded_max=4.0, v_threshold=threshold))
        return x

    folded = run([1.0] * 3, [theta / alphas[0], theta / (alphas[0] * alphas[1])])
    assert folded.any()
    assert torch.allclose(run(alphas, [theta] * 2), folded * float(np.prod(alphas)), rtol=1e-12, atol=0)


def test_graded_spikes_deploy_and_every_engine_agrees(
    make_recipe: MakeRecipe, tiny_data: Dataset, tmp_path: Path
) -> None:
    program = deployed(make_recipe, tmp_path)
    assert program.needs() == {"graded spikes", "graded input"}
    assert [(node.output, node.payload_bits) for node in program.neurons] == [("graded", 6)] * 3
    assert all(not bound.violations() for bound in bound_program(program))
    assert parity(tmp_path, against=["torch"]).equal
    binary_input = replace(program.input, message_bits=1)
    records = [record for record in program.lossy if "payloads" in record["what"]]
    assert [record["largest_asked"] for record in records] == [4.0] * 3
    for record in records:
        assert 4 - record["step"] <= record["largest_used"] < 8
    with pytest.raises(UnsupportedError, match="graded spikes"):
        refuse_what_target_lacks(replace(program, target="loihi1", nodes=(binary_input, *program.nodes[1:])))


def test_a_merely_rounded_network_is_near_the_float_network_that_fine_tuning_may_learn_from(
    make_recipe: MakeRecipe, tiny_data: Dataset, tmp_path: Path
) -> None:
    """Our payloads count steps, the float network's spikes carry voltages."""
    neuron = {**GRADED, "payload_bits": 8, "v_threshold": 0.5}
    recipe = make_recipe(
        (CONV,), neuron=neuron, objective=["cross_entropy"], optimizer={"lr": 0.02, "epochs": 2, "batch_size": 32}
    )
    train(recipe, out=tmp_path)
    quantized, data = quantize(tmp_path, epochs=0), prepare(recipe)
    module = QuantizedModule(quantized.layout, quantized.tensors)
    network = load_network(load_trained(tmp_path), data.shape, 10)
    events, _ = next(data.batches(data.dataset.validation, 20, torch.device("cpu")))
    with torch.no_grad():
        found = float(distance(module, network, data, events, recipe.neuron))
        silence = sum(float(rate.square().mean()) for rate in network(data.as_floats(events)).rates.values())
    assert 0 < found < 0.1 * silence


def test_without_a_normalization_their_weights_are_one_and_minus_one(
    make_recipe: MakeRecipe, tiny_data: Dataset, tmp_path: Path
) -> None:
    program = deployed(make_recipe, tmp_path, epochs=0, normalization=None)
    for synapse in program.synapses[1:-1]:
        assert synapse.num_weight_bits == 2
        assert set(np.unique(synapse.weight)) == {-128, 128}
    assert parity(tmp_path, against=["torch"]).equal


@pytest.mark.slow
def test_they_are_equal_in_lava_too(make_recipe: MakeRecipe, tiny_data: Dataset, tmp_path: Path) -> None:
    deployed(make_recipe, tmp_path, epochs=0)
    assert parity(tmp_path, against=["fast", "lava"], samples=4, record=["u", "v"]).equal


def test_bounds_count_with_the_largest_payload() -> None:
    """With payloads of 6 bits a sum of 64 weights may grow to 63 times as much, so the threshold is smaller."""
    rng = np.random.default_rng(0)

    def thresholds(neuron: FoldedNeuron) -> list[int]:
        def layer(name: str, source: str, gain: float, neuron: FoldedNeuron | None) -> FoldedLayer:
            weight = rng.choice([-gain, gain], (8, 8)) * rng.uniform(0.5, 1, (8, 8))
            synapse = FoldedSynapse(name, source, {"kind": "dense", "in_shape": [8]}, weight)
            return FoldedLayer(name, [8], (synapse,), np.zeros(8), neuron)

        layers = [layer("a", "input", 0.2, neuron), layer("b", "a", 0.5, neuron), layer("c", "b", 1.0, None)]
        chosen = choose_registers(layers, message_bits=4, weight_bits=8, headroom=1.0, num_steps=4)
        return [each.layout["neuron"]["vth"] for each in chosen[:-1]]

    plain = FoldedNeuron(2048)
    binary, graded = thresholds(plain), thresholds(replace(plain, output="graded", graded_max=4.0, payload_bits=6))
    assert graded[1] < binary[1] / 2


@pytest.mark.parametrize(
    ("neuron", "message"),
    [
        ({"output": "binary", "graded_max": 4.0}, "graded_max with output graded only"),
        ({"output": "graded", "graded_max": 9.0, "payload_bits": 4}, "graded_max of at most half of 2.payload_bits"),
        ({"output": "graded", "graded_max": 1.0}, "greater than 1"),
        ({"output": "graded", "graded_max": 4.0, "payload_bits": 17}, "less than or equal to 16"),
    ],
)
def test_limits_that_mean_nothing_are_refused(make_recipe: MakeRecipe, neuron: dict[str, Any], message: str) -> None:
    with pytest.raises(LavatubeError, match=message):
        make_recipe(neuron={"decay": 0.5, **neuron})


def test_spikes_without_a_limit_train_and_are_refused_by_name(
    make_recipe: MakeRecipe, tiny_data: Dataset, tmp_path: Path
) -> None:
    recipe = make_recipe(neuron={"decay": 0.5, "output": "graded"}, objective=["cross_entropy"])
    train(recipe.model_copy(update={"optimizer": recipe.optimizer.model_copy(update={"epochs": 1})}), out=tmp_path)
    with pytest.raises(UnsupportedError, match=r"graded spikes without a limit.*graded_max"):
        quantize(tmp_path, epochs=0)
