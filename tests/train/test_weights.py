"""Binary and sub-bit weights: what trains, what is left, and that quantization keeps it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.utils import parametrize

from lavatube.convert.export import export
from lavatube.convert.lossy import rounding
from lavatube.convert.quantize import quantize
from lavatube.convert.registers import ChosenLayer, FoldedLayer, FoldedNeuron, FoldedSynapse, choose_registers
from lavatube.deploy.lower import lower
from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.lossy_text import lasting
from lavatube.sim.parity import parity
from lavatube.train.datasets.dataset import Dataset
from lavatube.train.loop import Trainee, train_epoch
from lavatube.train.optimization import make_optimizer
from lavatube.train.processes import Processes
from lavatube.train.quantized import QuantizedModule
from lavatube.train.recipe import Recipe
from lavatube.train.run import train
from lavatube.train.samples import prepare
from lavatube.train.weights.binary import BinaryLatent, Magnitude, SignStraightThrough
from lavatube.train.weights.sub_bit import CodewordStraightThrough, SubBitLatent, most_frequent, scale_outliers
from lavatube.trained import TrainedNetwork, save_trained

MakeRecipe = Callable[..., Recipe]
GENERATOR = torch.Generator()
LAYERS = (
    {"conv2d": {"channels": 4, "kernel": 3, "padding": 1}},
    {"conv2d": {"channels": 6, "kernel": 3, "stride": 2}},
    {"dense": {"units": 12}},
)


def recipe_of(make_recipe: MakeRecipe, weight: Any, **changes: Any) -> Recipe:
    return make_recipe(LAYERS, weight=weight, objective=["cross_entropy"], **changes)


def test_the_sign_of_zero_is_one_and_the_gradient_passes_up_to_one() -> None:
    latent = torch.tensor([-2.0, -1.0, -0.5, 0.0, -0.0, 1.0, 1.5], requires_grad=True)
    signs = SignStraightThrough.apply(latent)
    assert signs.tolist() == [-1, -1, -1, 1, 1, 1, 1]
    signs.backward(torch.arange(1.0, 8))
    assert latent.grad is not None
    assert latent.grad.tolist() == [0, 2, 3, 4, 5, 6, 0]


@pytest.mark.parametrize("per", ["channel", "layer"])
@pytest.mark.parametrize("scale", ["mean", "learnt"])
def test_a_binary_weight_is_its_sign_times_the_mean_magnitude(per: str, scale: str) -> None:
    latent = torch.randn(5, 3, 3, 3, generator=GENERATOR.manual_seed(0))
    weight = BinaryLatent(Magnitude(latent, per, scale))(latent)
    mean = latent.abs().mean() if per == "layer" else latent.abs().mean((1, 2, 3), keepdim=True)
    assert torch.equal(weight, torch.where(latent < 0, -mean, mean))


@pytest.mark.parametrize("per", ["channel", "layer"])
def test_pruned_weights_do_not_lower_the_magnitude_of_those_that_live(per: str) -> None:
    latent = torch.randn(5, 4, 3, 3, generator=GENERATOR.manual_seed(0))
    pruned = torch.where(torch.rand(latent.shape, generator=GENERATOR) < 0.7, 0.0, latent)
    pruned[4] = 0  # a channel that has only what has just grown
    magnitude = Magnitude(latent, per, "mean")(pruned).expand(5, 1, 1, 1).flatten()  # type: ignore[arg-type]
    rows = [pruned] * 5 if per == "layer" else list(pruned)
    means = [(row if row.any() else pruned).abs() for row in rows]
    means = [each[each != 0].mean() for each in means]
    torch.testing.assert_close(magnitude, torch.stack(means))


@pytest.mark.parametrize("weight", ["binary", "sub_bit"])
@pytest.mark.parametrize("normalization", ["pooled", None])
def test_exported_integers_are_two_values_per_channel_also_after_fine_tuning_and_the_signs_are_those_trained(
    make_recipe: MakeRecipe, tiny_data: Dataset, tmp_path: Path, weight: str, normalization: str | None
) -> None:
    recipe = recipe_of(
        make_recipe, {"kind": weight, "per": "layer", "scale": "learnt"}, normalization=normalization,
        data={"name": "tiny"}, num_steps=2,
    )  # fmt: skip
    trained = train(recipe, out=tmp_path)
    quantized = quantize(tmp_path, epochs=2)
    export(tmp_path)
    program = lower(tmp_path / "model.nir", out=tmp_path / "program.safetensors")
    for number, name in enumerate(["layer2_conv2d", "layer3_dense"], start=2):
        synapse = next(node for node in program.synapses if node.name == name)
        integers = np.sign(synapse.weight).reshape(len(synapse.weight), -1)
        floats = trained.tensors[f"layer{number}.synapse.weight"].reshape(integers.shape)
        values = np.abs(synapse.weight.reshape(integers.shape))
        assert (values == values[:, :1]).all()
        gain = trained.tensors.get(f"layer{number}.norm.weight", np.ones(len(floats)))
        alive = values[:, 0] > 0
        assert np.array_equal(integers[alive], (np.sign(floats) * np.sign(gain)[:, None])[alive])
        per_weight = quantized.metrics["bits_per_weight"][name]
        if normalization is None:  # one magnitude in the layer: 1 and -1, whose magnitude is a single bit
            assert (synapse.num_weight_bits, set(np.unique(integers))) == (2, {-1, 1})
            assert len(np.unique(values)) == 1
            assert per_weight <= 1 + 1 / synapse.weight.size + 1e-4
        else:
            assert synapse.num_weight_bits == 8
            assert per_weight <= 1 + 7 * len(values) / synapse.weight.size + 1e-4
    assert quantized.metrics["bits_per_weight"]["layer1_conv2d"] == 8  # the first layer's weights are free
    assert parity(tmp_path, against=["torch", "fast"]).equal


def signs_module() -> tuple[QuantizedModule, list[ChosenLayer]]:
    """One population of weights with kept signs, and a read-out."""
    signed = np.array([[0.3, -0.3, 0.3, 0.0], [0.2, -0.2, -0.2, 0.2]])

    def folded(name: str, source: str, weight: np.ndarray, neuron: FoldedNeuron | None) -> FoldedLayer:
        synapse = FoldedSynapse(name, source, {"kind": "dense", "in_shape": [weight.shape[1]]}, weight)
        return FoldedLayer(name, [len(weight)], (synapse,), np.zeros(len(weight)), neuron)

    rows = [folded("a", "input", signed, FoldedNeuron(2048)), folded("b", "a", np.arange(1.0, 7).reshape(3, 2), None)]
    chosen = choose_registers(rows, message_bits=1, weight_bits=8, headroom=0.9, num_steps=2)
    layout = {
        "num_steps": 2,
        "input": {"shape": [4], "message_bits": 1},
        "layers": [dict(row.layout) for row in chosen],
    }
    module = QuantizedModule(layout)
    for layer, values in zip(module.in_order(), chosen, strict=True):
        layer.inbound()[0].set_master(values.weights[0])
    return module, chosen


def test_the_record_of_kept_signs_counts_a_magnitude_that_trained_below_zero() -> None:
    module, chosen = signs_module()
    synapse = module.in_order()[0].inbound()[0]
    scale = synapse.layout["scale"]
    with torch.no_grad():
        synapse.weights.magnitude[1] = -40.25 * scale
    assert synapse.integer_weight()[1].tolist() == [0] * 4
    records = rounding(chosen, module, tuned=True)
    (record,) = (each for each in records if each["layer"] == "a_dense" and "after" in each["when"])
    found = {key: value for key, value in record.items() if key.startswith("weight_")}
    largest = int(synapse.integer_weight().max())
    assert found == {
        "weight_largest": largest, "weight_to_zero": 4, "weight_clamped": 4, "weight_largest_error": 40.25 * scale
    }  # fmt: skip


def test_without_fine_tuning_there_is_one_record_of_each_rounding() -> None:
    module, chosen = signs_module()
    before = [each for each in rounding(chosen, module, tuned=True) if each["when"] == "before fine-tuning"]
    only = rounding(chosen, module, tuned=False)
    assert [(each["layer"], each["what"]) for each in only] == [(each["layer"], each["what"]) for each in before]
    assert not any("when" in each for each in only)
    assert len(lasting(rounding(chosen, module, tuned=True))) == len(lasting(only)) == len(only)


def test_registers_that_rounding_overflows_are_refused_with_a_headroom_that_fits(
    make_recipe: MakeRecipe, tiny_data: Dataset, tmp_path: Path
) -> None:
    """Of 2 bits, 0.9 of the largest weight becomes all of it: a row of such weights adds up to more than was proven."""
    recipe = make_recipe(({"dense": {"units": 2}},), normalization=None, objective=["cross_entropy"], num_steps=1)
    tensors = dict(train(recipe).tensors)
    weight = np.full_like(tensors["layer1.synapse.weight"], 0.9)
    weight[0], weight[0, 0] = 0, 1
    tensors["layer1.synapse.weight"] = weight
    save_trained(TrainedNetwork(recipe.model_dump(mode="json"), tensors, {}), tmp_path)
    with pytest.raises(UnsupportedError, match=r"v can reach.*quantize with --headroom") as refused:
        quantize(tmp_path, epochs=0, weight_bits=2)
    fits = float(str(refused.value).split("--headroom ")[1])
    assert 0.3 < fits < 0.85
    assert quantize(tmp_path, epochs=0, weight_bits=2, headroom=fits).metrics["weight_bits"] == 2


@pytest.mark.parametrize("sign", [2.0, -0.5, 300.0])
def test_signs_of_a_checkpoint_that_are_none_are_refused(sign: float) -> None:
    module, _ = signs_module()
    tensors = {name: value.numpy().copy() for name, value in module.state_dict().items()}
    QuantizedModule(module.layout, tensors)
    tensors["layers.0.synapses.0.weights.signs"][1, 2] = sign
    with pytest.raises(LavatubeError, match=f"a: signs of weights, expected -1, 0, 1, got {sign:g}"):
        QuantizedModule(module.layout, tensors)


def test_first_layer_and_read_out_stay_free_unless_all_are_asked_for(
    make_recipe: MakeRecipe, tiny_data: Dataset
) -> None:
    def binary(weight: Any, **changes: Any) -> list[str]:
        recipe = recipe_of(make_recipe, weight, **changes)
        network = Trainee(recipe, prepare(recipe)).network
        return [name for name, layer in network.chain() if parametrize.is_parametrized(layer.synapse)]

    assert binary("binary") == ["layer2", "layer3"]
    assert binary({"kind": "binary", "layers": "all"}) == ["layer1", "layer2", "layer3", "layer4"]
    with pytest.raises(LavatubeError, match=r"weight binary has no layer to work on.*layers: all"):
        binary("binary", network={"kind": "chain", "layers": [LAYERS[0], {"dense": {"units": 10}}]})


def test_every_kernel_is_in_the_codebook(make_recipe: MakeRecipe, tiny_data: Dataset) -> None:
    recipe = recipe_of(make_recipe, {"kind": "sub_bit", "index_bits": 2, "refresh_every": 1})
    data = prepare(recipe)
    trainee = Trainee(recipe, data)
    optimizer = make_optimizer(trainee, recipe.optimizer)
    books = []
    for epoch in range(2):
        train_epoch(trainee, recipe, data, optimizer, epoch, Processes())
        # of the one convolution between the ends; the dense layer is plain binary
        [book] = [value.clone() for name, value in trainee.state_dict().items() if name.endswith("codebook")]
        books.append(book)
    assert book.shape == (4, 9)
    assert not torch.equal(*books)  # chosen anew
    kernels = trainee.finalize().chain()[1][1].synapse.weight.detach().flatten(2).sign()
    known = {tuple(row) for row in book.tolist()}
    assert {tuple(row) for row in kernels.flatten(0, 1).tolist()} <= known


def test_the_codebook_holds_the_most_frequent_patterns_and_is_full_of_different_ones() -> None:
    patterns = torch.where(torch.randn(3, 9, generator=GENERATOR.manual_seed(1)) < 0, -1.0, 1.0)
    latent = patterns[[0] * 5 + [1] * 3 + [2]].reshape(9, 1, 3, 3)
    assert torch.equal(most_frequent(latent, 2), patterns[:2])
    filled = most_frequent(latent, 32)
    assert torch.equal(filled[:3], patterns)
    assert len(torch.unique(filled, dim=0)) == 32


def test_treatment_of_outliers_leaves_kernels_without_them_in_proportion() -> None:
    regular = torch.linspace(-1, 1, 9)[torch.randperm(9, generator=GENERATOR.manual_seed(2))].reshape(1, 1, 3, 3)
    ratio = scale_outliers(regular) / regular
    assert torch.allclose(ratio[regular != 0], ratio[regular != 0][0])


def test_despite_an_outlier_the_codeword_is_found_more_often_than_by_plain_distance_if_there_are_few() -> None:
    generator = GENERATOR.manual_seed(3)
    clean = torch.rand(2000, 1, 3, 3, generator=generator) * 2 - 1
    book = torch.where(torch.randn(16, 9, generator=generator) < 0, -1.0, 1.0)
    only = {True: 0, False: 0}  # kernels that one of the two gets right, and the other does not
    for place in range(9):
        spoiled = clean.clone()
        spoiled.flatten(1)[:, place] = 50 * clean.flatten(1)[:, place].sign()
        wanted = CodewordStraightThrough.apply(clean, book, False)
        os, plain = (
            (CodewordStraightThrough.apply(spoiled, book, outliers) == wanted).flatten(1).all(1)
            for outliers in (True, False)
        )
        only[True] += int((os & ~plain).sum())
        only[False] += int((plain & ~os).sum())
    z = (only[True] - only[False]) / sum(only.values()) ** 0.5
    assert z > 5, only


@pytest.mark.parametrize(("quantizer", "outliers"), [("os", True), ("l2", False)])
def test_the_quantizer_of_a_recipe_is_the_one_that_trains(
    make_recipe: MakeRecipe, tiny_data: Dataset, quantizer: str, outliers: bool
) -> None:
    recipe = recipe_of(make_recipe, {"kind": "sub_bit", "quantizer": quantizer, "index_bits": 2})
    [module] = Trainee(recipe, prepare(recipe)).network.chain()[1][1].synapse.parametrizations["weight"]
    latent = torch.randn(20, 4, 3, 3, generator=GENERATOR.manual_seed(4))
    latent[:, :, 1, 1] *= 50
    found = [CodewordStraightThrough.apply(latent, module.codebook, each) for each in (outliers, not outliers)]
    assert not torch.equal(*found)  # the premise
    module.magnitude.forward = lambda latent: 1.0
    assert torch.equal(module(latent), found[0])


def test_outliers_of_constant_kernels_stay_finite() -> None:
    assert torch.isfinite(scale_outliers(torch.zeros(2, 1, 3, 3))).all()
    spike = torch.zeros(1, 1, 3, 3)
    spike[0, 0, 1, 1] = 1e-30
    assert torch.isfinite(scale_outliers(spike)).all()


def test_a_kernel_that_has_no_fewer_codewords_than_patterns_stays_binary(
    make_recipe: MakeRecipe, tiny_data: Dataset
) -> None:
    for index_bits, kind in ((8, SubBitLatent), (9, BinaryLatent)):
        recipe = recipe_of(make_recipe, {"kind": "sub_bit", "index_bits": index_bits})
        network = Trainee(recipe, prepare(recipe)).network
        [module] = network.chain()[1][1].synapse.parametrizations["weight"]
        assert type(module) is kind
