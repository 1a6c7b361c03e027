"""What every method promises, whatever its extension point. Parametrized over the table: a new row is tested here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from method_cases import (
    BASE,
    BESIDE,
    CASES,
    NETWORKS,
    ZERO,
    assert_promises,
    changes_for,
    left_behind,
    outputs,
    recipe_with,
    trained,
)
from torch import nn
from torch.nn.utils import parametrize

from lavatube.convert.export import export
from lavatube.convert.fold import LOWERED
from lavatube.convert.quantize import quantize
from lavatube.deploy.lower import lower
from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.sim.parity import parity
from lavatube.sim.run import run
from lavatube.train.extension_points import EXTENSION_POINTS
from lavatube.train.loop import Trainee
from lavatube.train.networks.build import build_network, load_network
from lavatube.train.networks.network import SpikingNetwork
from lavatube.train.objectives.cross_entropy import CrossEntropy
from lavatube.train.objectives.term import Term
from lavatube.train.recipe import Recipe
from lavatube.train.recipe_model import Strict, kind_of, refuse_bad_rows
from lavatube.train.run import train
from lavatube.train.samples import prepare
from lavatube.train.weights.binary import Binary
from lavatube.trained import TrainedNetwork

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.mark.parametrize(("point", "row"), CASES)
def test_finalizing_keeps_the_outputs_and_leaves_nothing_behind(
    tiny_recipe: Callable[..., Recipe], point: str, row: type[Strict]
) -> None:
    recipe = recipe_with(tiny_recipe, point, row)
    trainee = trained(recipe)
    network = trainee.network
    before = outputs(network)
    assert torch.equal(outputs(trainee.finalize()), before)
    assert torch.equal(outputs(trainee.finalize()), before)
    assert left_behind(network, recipe) == []
    assert_promises(network, recipe)


@pytest.mark.slow
@pytest.mark.parametrize(("point", "row"), CASES)
def test_finalizing_and_saving_commute_and_seeds_reproduce(
    tiny_recipe: Callable[..., Recipe], point: str, row: type[Strict]
) -> None:
    recipe = recipe_with(tiny_recipe, point, row)
    first, second = trained(recipe), trained(recipe)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    third = Trainee(recipe, prepare(recipe))
    third.load_state_dict(first.state_dict())  # saved in the middle of training, then finalized
    plain = {name: value.numpy() for name, value in first.finalize().state_dict().items()}
    shape = third.network.input_shape
    loaded = load_network(TrainedNetwork(recipe.model_dump(mode="json"), plain, {}), shape, 10)
    assert torch.equal(outputs(third.finalize()), outputs(loaded))


class Interrupted(Exception):
    pass


STATEFUL = ("dsr", "qcfs", "bkdsnn", "sca")  # methods with parameters or buffers that only training has


@pytest.mark.parametrize(
    ("point", "row"),
    [
        pytest.param(*case.values, id=case.id, marks=() if case.id.endswith(STATEFUL) else pytest.mark.long)  # type: ignore[union-attr]
        for case in CASES
    ],
)
def test_a_run_with_any_method_resumes_to_the_same_bits(
    tiny_recipe: Callable[..., Recipe], tmp_path: Path, point: str, row: type[Strict]
) -> None:
    recipe = recipe_with(tiny_recipe, point, row)

    def interrupt(epoch: int, *rest: object) -> None:
        raise Interrupted

    straight = train(recipe).tensors
    with pytest.raises(Interrupted):
        train(recipe, out=tmp_path / "run", progress=interrupt)
    resumed = train(recipe, out=tmp_path / "run").tensors
    assert set(resumed) == set(straight)
    for name, value in straight.items():
        assert np.array_equal(resumed[name], value), name


@pytest.mark.parametrize(
    "changes",
    [
        *(pytest.param(changes_for(*case.values), id=case.id) for case in CASES),  # type: ignore[arg-type]
        pytest.param(
            {
                "objective": ["cross_entropy", "self_distillation", "shortcut", "kdsnn", "bkdsnn"],
                "network": {"kind": "vgg", "width": 2},
                "weight": {"kind": "binary", "scale": "learnt"},
            },
            id="heads and magnitudes",
        ),
    ],
)
def test_whatever_a_method_adds_to_train_is_trained(
    tiny_recipe: Callable[..., Recipe], changes: dict[str, Any]
) -> None:
    recipe = tiny_recipe(**BASE | changes)
    data = prepare(recipe)
    plain = {f"network.{name}" for name, _ in build_network(recipe, data.shape, data.classes).named_parameters()}
    before = {name: p.detach().clone() for name, p in Trainee(recipe, data).named_parameters() if name not in plain}
    if before:
        after = dict(trained(recipe, epochs=1).named_parameters())
        assert [name for name, value in before.items() if torch.equal(after[name], value)] == []


class Halved(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight / 2


class HalvesWeights(CrossEntropy):
    """A method that parametrizes what it trains."""

    def attach(self, network: SpikingNetwork) -> None:
        parametrize.register_parametrization(network.chain()[0][1].synapse, "weight", Halved())

    def finalize(self, network: SpikingNetwork) -> None:
        synapse = network.chain()[0][1].synapse
        if parametrize.is_parametrized(synapse):
            parametrize.remove_parametrizations(synapse, "weight", leave_parametrized=True)


def test_what_a_method_attaches_trains_and_is_folded_at_the_end(
    tiny_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    recipe = tiny_recipe(data={"name": "tiny"}, objective=["cross_entropy"])
    trainee = trained(recipe.model_copy(update={"objective": [HalvesWeights()]}))
    assert any("parametrizations" in name for name in trainee.state_dict())
    before = outputs(trainee.network)
    assert torch.equal(outputs(trainee.finalize()), before)
    assert left_behind(trainee.network, recipe) == []


def test_a_network_that_finalizing_changed_is_noticed(tiny_recipe: Callable[..., Recipe]) -> None:
    """Faults: latent weights in the place of binary ones, another threshold, voltages kept, a hook on all modules."""
    recipe = tiny_recipe(**BASE | {"weight": "binary"})
    trainee = trained(recipe)
    network, before = trainee.network, outputs(trainee.network)
    assert recipe.weight is not None
    for layer in recipe.weight.chosen(network):
        parametrize.remove_parametrizations(layer.synapse, "weight", leave_parametrized=False)
    assert not torch.equal(outputs(network), before)
    with pytest.raises(AssertionError):
        assert_promises(network, recipe)
    network = trained(recipe).finalize()
    assert torch.equal(outputs(network), before)
    population = network.populations()[-1]
    population.spec = population.spec.model_copy(update={"v_threshold": 0.7})
    assert not torch.equal(outputs(network), before)
    population.shown = True
    hook = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        found = sorted(left_behind(network, recipe))
        assert found == ["_global_forward_hooks", "layer2.neurons: shown: True, expected False"]
    finally:
        hook.remove()


@pytest.mark.parametrize("loss", [torch.zeros(3), 0.5])
def test_a_loss_that_is_no_scalar_is_refused_with_its_term(
    tiny_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch, loss: Any
) -> None:
    recipe = tiny_recipe(**BASE)
    monkeypatch.setattr(CrossEntropy, "loss", lambda *_: loss)
    with pytest.raises(LavatubeError, match=r"objective cross_entropy: loss of a term, expected a scalar tensor, got"):
        trained(recipe, epochs=1)


class WithoutName(CrossEntropy):
    """A row that forgot its `kind`, and so has that of the class above it."""


class Dotted(CrossEntropy):
    kind: Literal["a.b"] = "a.b"  # type: ignore[assignment]


class Otherwise(CrossEntropy):
    kind: Literal["mine"] = "other"  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (WithoutName, "kind cross_entropy is that of .*CrossEntropy"),
        (Dotted, "NAME an identifier"),
        (Otherwise, "kind: Literal"),
        (CrossEntropy(), "expected a class below Term"),
        (Binary, "expected a class below Term"),
    ],
    ids=["twice", "dot", "default", "instance", "wrong table"],
)
def test_a_row_that_is_none_is_refused_when_the_table_is_made(row: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        refuse_bad_rows((CrossEntropy, row), Term)


@pytest.mark.parametrize(
    "kind", [kind_of(row) for row in EXTENSION_POINTS["objective"] if kind_of(row) != "cross_entropy"]
)
def test_a_term_of_weight_zero_changes_no_bit_of_the_gradients(tiny_recipe: Callable[..., Recipe], kind: str) -> None:
    def gradients(*terms: Any) -> dict[str, torch.Tensor]:
        beside = {"network": {"kind": "chain", **NETWORKS["chain"]}, **BESIDE.get(kind, {})}
        recipe = tiny_recipe(**beside, data={"name": "tiny"}, objective=["cross_entropy", *terms])
        data = prepare(recipe)
        trainee = Trainee(recipe, data)
        events, labels = next(data.batches(data.dataset.train, 32, torch.device("cpu")))
        inputs = data.as_floats(events)
        recipe.gradient.gradients(trainee.network, inputs, trainee.loss_of(inputs, labels))
        return {name: p.grad for name, p in trainee.network.named_parameters() if p.grad is not None}

    assert ZERO[kind], "no field that ends in `weight`: say in tests/method_cases.py with which settings this term is 0"
    baseline, with_term = gradients(), gradients({"kind": kind, **ZERO[kind]})
    assert baseline
    for name, value in baseline.items():
        assert torch.equal(value, with_term[name]), name


@pytest.mark.slow
@pytest.mark.parametrize(("point", "row"), CASES)
def test_what_is_declared_is_what_lowering_finds_and_what_lowers_is_equal_in_every_spike(
    tiny_recipe: Callable[..., Recipe], point: str, row: type[Strict], tmp_path: Path
) -> None:
    recipe = recipe_with(tiny_recipe, point, row)
    train(recipe, out=tmp_path)
    data = prepare(recipe)
    needs = Trainee(recipe, data).network.needs
    assert recipe.needs == needs | recipe.encoder.needs
    if needs - LOWERED:
        with pytest.raises(UnsupportedError, match=sorted(needs - LOWERED)[0]):
            quantize(tmp_path, epochs=0)
        return
    quantize(tmp_path, epochs=1)
    if "recurrence" in needs:
        with pytest.raises(UnsupportedError, match=r"rates of a recurrent network.*--teach labels"):
            quantize(tmp_path, epochs=1, teach="float", overwrite=True)
    export(tmp_path)
    program = lower(tmp_path / "model.nir", out=tmp_path / "program.safetensors")
    assert program.needs() - {"sums with fractions"} == recipe.needs  # those only because loihi2 offers them
    if recipe.weight is not None:
        for synapse in program.synapses[1:-1]:
            rows = synapse.weight.reshape(len(synapse.weight), -1)
            assert max(len(np.unique(row)) for row in rows) <= recipe.weight.values_per_channel
    report = parity(tmp_path, against=["torch", "fast"])
    assert report.equal
    spikes = run(program, data.events(data.dataset.test), backend="fast").spikes
    assert all(each.any() for each in spikes.values())  # the premise: nothing is silent


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["resnet", "recurrent"])
def test_graphs_are_equal_in_lava_too(tiny_recipe: Callable[..., Recipe], kind: str, tmp_path: Path) -> None:
    recipe = tiny_recipe(
        network={"kind": kind, **NETWORKS[kind]}, gradient="bptt", data={"name": "tiny"}, num_steps=4,
        objective=["cross_entropy"], optimizer={"lr": 0.02, "epochs": 2, "batch_size": 32},
    )  # fmt: skip
    train(recipe, out=tmp_path)
    quantize(tmp_path, epochs=0)
    export(tmp_path)
    program = lower(tmp_path / "model.nir", out=tmp_path / "program.safetensors")
    assert len(program.synapses) > len(program.targets)  # the premise: no chain
    assert parity(tmp_path, against=["lava"], samples=4, record=["u", "v"]).equal


@pytest.mark.parametrize("gradient", ["rate", {"kind": "rate", "form": "single_step"}])
def test_recurrence_is_refused_by_rules_on_averages(tiny_recipe: Callable[..., Recipe], gradient: Any) -> None:
    network = {"kind": "recurrent", "units": [8]}
    with pytest.raises(LavatubeError, match=r"recurrent network cannot be trained on time averages.*bptt"):
        train(tiny_recipe(network=network, gradient=gradient, normalization="tse", data={"name": "tiny"}))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vgg", "resnet", "sew_resnet", "preact_resnet", "bireal_resnet"])
@pytest.mark.parametrize("gradient", ["rate", {"kind": "rate", "form": "single_step"}, "online"], ids=str)
def test_every_feed_forward_network_trains_by_every_rule(
    tiny_recipe: Callable[..., Recipe], kind: str, gradient: Any
) -> None:
    recipe = tiny_recipe(
        network={"kind": kind, **NETWORKS[kind]},
        gradient=gradient,
        normalization="pooled" if gradient == "rate" else "tse",
        objective=["cross_entropy", {"kind": "self_distillation", "channels": 4}],
        data={"name": "tiny"},
        num_steps=2,
    )
    if kind == "preact_resnet" and isinstance(gradient, dict):
        with pytest.raises(UnsupportedError, match="no running average in single-step form"):
            Trainee(recipe, prepare(recipe))
        return
    before = Trainee(recipe, prepare(recipe)).state_dict()
    after = trained(recipe).state_dict()
    unchanged = [name for name in before if torch.equal(before[name], after[name])]
    assert unchanged == []
