"""Every neuron that a recipe can choose goes to a program with every spike equal, or is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lavatube.convert.export import export
from lavatube.convert.float_graph.given import choose_contract
from lavatube.convert.float_graph.read import read_float_graph
from lavatube.convert.quantize import distance, quantize
from lavatube.deploy.lower import lower
from lavatube.errors import UnsupportedError
from lavatube.program import LoihiProgram
from lavatube.sim.parity import parity
from lavatube.synapse_nodes import floors_sums
from lavatube.train.networks.build import load_network
from lavatube.train.quantized import QuantizedModule
from lavatube.train.recipe import Recipe
from lavatube.train.run import train
from lavatube.train.samples import prepare
from lavatube.trained import load_trained

pytestmark = pytest.mark.usefixtures("tiny")


def test_a_decay_that_the_register_cannot_hold_is_on_record_from_the_recipe_to_the_program(
    tiny_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    train(tiny_recipe(neuron={"decay": 0.3}, objective=["cross_entropy"]), out=tmp_path)
    quantize(tmp_path, epochs=0)
    export(tmp_path)
    program = lower(tmp_path / "model.nir", out=tmp_path / "program.safetensors")
    [record] = [record for record in program.lossy if record["stage"] == "train"]
    assert (record["asked"], record["used"], record["dv"]) == (0.3, 1 - 2867 / 4096, 2867)


NEURONS: dict[str, dict[str, Any]] = {
    "no leak": {"decay": 1},
    "soft reset": {"reset": "subtract", "fire_at": 0.5},
    "initial potential": {"v_initial": 0.5},
    "signed spikes": {"output": "signed"},
    "memory gate": {
        "decay": 1, "reset": "subtract", "v_initial": 0.5, "output": "signed", "v_threshold_low": 0, "memory_gate": True
    },
    "refractory period": {"refractory": 2},
}  # fmt: skip


def deployed(recipe: Recipe, folder: Path, epochs: int = 1) -> LoihiProgram:
    train(recipe, out=folder)
    quantize(folder, epochs=epochs)
    export(folder)
    return lower(folder / "model.nir", out=folder / "program.safetensors")


@pytest.mark.parametrize("kind", NEURONS)
def test_every_neuron_but_the_graded_deploys_with_every_spike_equal(
    tiny_recipe: Callable[..., Recipe], kind: str, tmp_path: Path
) -> None:
    recipe = tiny_recipe(neuron={"decay": 0.5} | NEURONS[kind], data={"name": "tiny"}, objective=["cross_entropy"])
    program = deployed(recipe, tmp_path)
    fractions = {"sums with fractions"} if any(map(floors_sums, program.synapses)) else set()
    assert program.needs() == recipe.needs | fractions
    assert parity(tmp_path, against=["torch", "fast"], record=["u", "v"]).equal


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["soft reset", "memory gate"])
def test_such_neurons_are_equal_in_lava_too(tiny_recipe: Callable[..., Recipe], kind: str, tmp_path: Path) -> None:
    recipe = tiny_recipe(neuron={"decay": 0.5} | NEURONS[kind], data={"name": "tiny"}, objective=["cross_entropy"])
    deployed(recipe, tmp_path, epochs=0)
    assert parity(tmp_path, against=["lava"], samples=4, record=["u", "v"]).equal


def test_a_graded_neuron_trains_and_is_refused_by_name(tiny_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    recipe = tiny_recipe(neuron={"decay": 0.5, "output": "graded"}, data={"name": "tiny"}, objective=["cross_entropy"])
    train(recipe, out=tmp_path)
    with pytest.raises(UnsupportedError, match="graded spikes"):
        quantize(tmp_path, epochs=0)


def test_a_target_that_lacks_something_refuses_before_fine_tuning(
    tiny_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    soft = {"decay": 0.5, "reset": "subtract"}
    train(tiny_recipe(neuron=soft, data={"name": "tiny"}, objective=["cross_entropy"]), out=tmp_path)
    with pytest.raises(UnsupportedError, match=r"target loihi1: the network needs .*, expected delays"):
        quantize(tmp_path, target="loihi1", progress=lambda *_: pytest.fail("fine-tuned"))
    assert not (tmp_path / "quantized.safetensors").exists()


def test_what_a_float_reader_would_compute_otherwise_is_not_run_as_floats(
    tiny_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    recipe = tiny_recipe(neuron={"decay": 0.5, "reset": "subtract"}, data={"name": "tiny"}, objective=["cross_entropy"])
    deployed(recipe, tmp_path, epochs=0)
    with pytest.raises(UnsupportedError, match="reset subtract of layer1_lif"):
        choose_contract(read_float_graph(tmp_path / "model.nir"), None)


@pytest.mark.slow
def test_a_quantized_network_is_calibrated_layer_by_layer_without_labels(
    tiny_recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe(
        data={"name": "tiny"}, objective=["cross_entropy"], num_steps=3, neuron={"decay": 0.5, "v_threshold": 0.4},
        optimizer={"lr": 0.02, "epochs": 2, "batch_size": 16},
    )  # fmt: skip
    train(recipe, out=tmp_path)
    monkeypatch.setattr("lavatube.convert.quantize.F.cross_entropy", None)
    data, found = prepare(recipe), []
    network = load_network(load_trained(tmp_path), data.shape, 10)
    events, _ = next(data.batches(data.dataset.validation, 20, torch.device("cpu")))
    with torch.no_grad():
        lesson = network(data.as_floats(events))
    for epochs in (0, 8):
        quantized = quantize(tmp_path, epochs=epochs, weight_bits=3, teach="float", overwrite=True)
        module = QuantizedModule(quantized.layout, quantized.tensors)
        made = module.rates(data.as_integers(events), recipe.neuron, local=True)
        ours = {**made, "layer3": made["layer3"] * quantized.layout["layers"][-1]["logit_scale"]}
        wanted = {**lesson.rates, "layer3": lesson.logits}
        found.append(sum(float(((ours[name] - wanted[name]) ** 2).mean().detach()) for name in wanted))
    assert 0 < found[1] < 0.99 * found[0]
    for name, rate in made.items():  # each rate's gradient stays in its own layer
        module.zero_grad()
        rate.sum().backward(retain_graph=True)  # type: ignore[no-untyped-call]
        touched = {key.split(".")[1] for key, value in module.named_parameters() if value.grad is not None}
        assert touched == {str([layer.name for layer in module.in_order()].index(name))}
    parameters = list(module.in_order()[0].inbound()[0].parameters())
    own = torch.nn.functional.mse_loss(made["layer1"], lesson.rates["layer1"])
    learnt = distance(module, network, data, events, recipe.neuron)  # what the fine-tuning above went down
    alone, summed = (torch.autograd.grad(loss, parameters, retain_graph=True) for loss in (own, learnt))
    torch.testing.assert_close(summed, alone)
