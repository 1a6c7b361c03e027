"""What every method promises, whatever its extension point. Parametrized over the table: a new row is tested here."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from lavatube.convert.export import export
from lavatube.convert.float_graph.given import choose_contract
from lavatube.convert.float_graph.read import read_float_graph
from lavatube.convert.fold import LOWERED
from lavatube.convert.quantize import quantize
from lavatube.deploy.lower import lower
from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.program import LoihiProgram
from lavatube.sim.parity import parity
from lavatube.train.composition import RULES, Rule, rules_of
from lavatube.train.datasets import catalog
from lavatube.train.datasets.dataset import Dataset, Split
from lavatube.train.datasets.digits import load_digits
from lavatube.train.encoders import Encoder
from lavatube.train.extension_points import EXTENSION_POINTS
from lavatube.train.loop import Trainee, train_epoch
from lavatube.train.networks.build import load_network
from lavatube.train.networks.network import SpikingNetwork
from lavatube.train.objectives.cross_entropy import CrossEntropy
from lavatube.train.optimization import make_optimizer
from lavatube.train.plugin import Plugin
from lavatube.train.processes import Processes
from lavatube.train.quantized import QuantizedModule
from lavatube.train.recipe import Recipe
from lavatube.train.recipe_model import Strict, kind_of
from lavatube.train.run import train
from lavatube.train.samples import prepare
from lavatube.trained import TrainedNetwork, load_trained

CONVS = [{"conv2d": {"channels": 4, "kernel": 3, "padding": 1}}, {"conv2d": {"channels": 6, "kernel": 3, "stride": 2}}]
NETWORKS: dict[str, dict[str, Any]] = {
    "chain": {"layers": [*CONVS, {"avg_pool2d": {"kernel": 7}}, {"dense": {"units": 10}}]},
    "vgg": {"width": 2},
    "resnet": {"width": 2},
    "sew_resnet": {"width": 2},
    "preact_resnet": {"width": 2},
    "bireal_resnet": {"width": 2},
    "recurrent": {"units": [12, 8]},
}
ZERO: dict[str, dict[str, Any]] = {
    "self_distillation": {"form": "final", "alpha": 0.0, "beta": 0.0, "channels": 8},
    "self_ensemble": {"weight": 0.0},
    "bias_limit": {"weight": 0.0},
    "shortcut": {"weight": 0.0},
    "kdsnn": {"logit_weight": 0.0, "feature_weight": 0.0},
    "lasnn": {"weight": 0.0},
    "bkdsnn": {"logit_weight": 0.0, "feature_weight": 0.0},
    "tandem": {"weight": 0.0},
}
ANALOG: dict[str, Any] = {  # a rectified linear unit: graded, above next to nothing, of one timestep
    "num_steps": 1,
    "neuron": {
        "decay": 1,
        "output": "graded",
        "v_threshold": 1e-6,
        "surrogate": {"kind": "rectangular", "width": 1e-6},
    },
    "objective": ["cross_entropy"],
}
SETTINGS: dict[str, dict[str, Any]] = {  # of methods whose defaults would do nothing in a few steps
    "esl": {"density": 0.3, "exchange": 0.5, "update_every": 1},
    "sca": {"keep": 0.5, "regrow": 0.3, "update_every": 1},
}
SAME_AS_TEACHER = [
    {"conv2d": {"channels": 5, "kernel": 3, "padding": 1}}, {"conv2d": {"channels": 5, "kernel": 3, "stride": 2}},
    {"avg_pool2d": {"kernel": 7}}, {"dense": {"units": 10}},
]  # fmt: skip
BESIDE: dict[str, dict[str, Any]] = {  # what a recipe with a method needs besides it
    "self_ensemble": {"gradient": "bptt"},
    "dsr": {"neuron": {"decay": 1, "reset": "subtract", "fire_at": 0.5}},
    "tandem": {"network": {"kind": "chain", "layers": SAME_AS_TEACHER}},
    "qcfs": {"neuron": {"decay": 1, "reset": "subtract", "v_initial": 0.5}},
}
ROWS = [(point, row) for point, rows in EXTENSION_POINTS.items() for row in rows]
CASES = [pytest.param(point, row, id=f"{point}-{kind_of(row)}") for point, row in ROWS]


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """A data set `tiny`: digits drawn 16 pixels wide; and `tiny-sequence`: the same, brighter at each timestep."""
    digits = load_digits(None, 1)
    parts = [
        Split(np.kron(split.samples[:size], np.ones((1, 1, 2, 2), np.uint8)), split.label[:size].copy())
        for split, size in ((digits.train, 64), (digits.validation, 20), (digits.test, 20))
    ]
    brighter = (np.arange(1, 4, dtype=np.uint8) / 3).reshape(1, 3, 1, 1, 1)
    sequences = [Split((part.samples[:, None] * brighter).astype(np.uint8), part.label.copy()) for part in parts]
    sequence = Dataset("tiny-sequence", 10, True, sequences[0], sequences[1], sequences[2])
    monkeypatch.setitem(catalog.DATASETS, "tiny-sequence", lambda *_: sequence)  # type: ignore[arg-type]
    monkeypatch.setitem(catalog.DATASETS, "tiny", lambda *_: Dataset("tiny", 10, False, *parts))  # type: ignore[arg-type]


PUPILS = {kind_of(row) for _, row in ROWS if issubclass(row, Plugin) and row.needs_teacher}


@pytest.fixture
def make_recipe(
    make_recipe: Callable[..., Recipe], tiny: None, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Recipe]:
    """As the shared fixture; a recipe with a method that learns from a teacher gets one, a small network of rates."""

    def make(**changes: Any) -> Recipe:
        chosen = [*changes.get("objective", ()), *(changes.get(point) for point in EXTENSION_POINTS)]
        kinds = {each.get("kind") if isinstance(each, dict) else each for each in chosen if not isinstance(each, list)}
        if not kinds & PUPILS:
            return make_recipe(**changes)
        folder = tmp_path_factory.getbasetemp() / "teacher"
        if not folder.exists():
            layers = [{"conv2d": {**layer["conv2d"], "channels": 5}} for layer in CONVS]
            optimizer = {"lr": 0.02, "epochs": 1, "batch_size": 32}
            train(make_recipe(tuple(layers), data={"name": "tiny"}, **ANALOG, optimizer=optimizer), out=folder)
        return make_recipe(**changes, teacher={"kind": "run", "folder": str(folder)})

    return make


BASE: dict[str, Any] = {
    "network": {"kind": "chain", **NETWORKS["chain"]},
    "objective": ["cross_entropy"],
    "data": {"name": "tiny"},
    "optimizer": {"lr": 0.02, "epochs": 2, "batch_size": 32},
    "num_steps": 3,
}


def recipe_with(make_recipe: Callable[..., Recipe], point: str, row: type[Strict]) -> Recipe:
    return make_recipe(**BASE | changes_for(point, row))


def changes_for(point: str, row: type[Strict]) -> dict[str, Any]:
    """What of `BASE` is to change for a method."""
    kind, changes = kind_of(row), dict[str, Any]()
    if point == "surrogate":
        changes["neuron"] = {"decay": 0.5, "surrogate": kind}
    elif point == "objective":
        changes["objective"] = list(dict.fromkeys(["cross_entropy", kind]))
    elif point == "network":
        changes[point] = {"kind": kind, **NETWORKS[kind]}
        changes["gradient"] = "bptt"
    else:
        changes[point] = {"kind": kind, **SETTINGS.get(kind, {})}
        if issubclass(row, Encoder) and not row.for_static:
            changes["data"] = {"name": "tiny-sequence"}
    if kind == "online":
        changes["normalization"] = "tse"
    changes |= BESIDE.get(kind, {})
    return changes


def trained(recipe: Recipe) -> Trainee:
    data = prepare(recipe)
    trainee = Trainee(recipe, data)
    optimizer = make_optimizer(trainee, recipe.optimizer)
    for epoch in range(2):
        train_epoch(trainee, recipe, data, optimizer, epoch, Processes())
    return trainee


def plain_names(recipe: Recipe) -> set[str]:
    data = prepare(recipe)
    return set(Trainee(recipe, data).finalize().state_dict())


def outputs(network: SpikingNetwork) -> torch.Tensor:
    with torch.no_grad():
        return network.eval()(torch.rand(8, *network.input_shape, generator=torch.Generator().manual_seed(0))).logits


@pytest.mark.parametrize(("point", "row"), CASES)
def test_finalizing_keeps_the_outputs_and_leaves_nothing_behind(
    make_recipe: Callable[..., Recipe], point: str, row: type[Strict]
) -> None:
    recipe = recipe_with(make_recipe, point, row)
    trainee = trained(recipe)
    network = trainee.network
    before = outputs(network)
    assert torch.equal(outputs(trainee.finalize()), before)
    assert torch.equal(outputs(trainee.finalize()), before)
    assert set(network.state_dict()) == plain_names(recipe)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


@pytest.mark.slow
@pytest.mark.parametrize(("point", "row"), CASES)
def test_finalizing_and_saving_commute_and_seeds_reproduce(
    make_recipe: Callable[..., Recipe], point: str, row: type[Strict]
) -> None:
    recipe = recipe_with(make_recipe, point, row)
    first, second = trained(recipe), trained(recipe)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    third = Trainee(recipe, prepare(recipe))
    third.load_state_dict(first.state_dict())  # saved in the middle of training, then finalized
    plain = {name: value.numpy() for name, value in first.finalize().state_dict().items()}
    shape = third.network.input_shape
    loaded = load_network(TrainedNetwork(recipe.model_dump(mode="json"), plain, {}), shape, 10)
    assert torch.equal(outputs(third.finalize()), outputs(loaded))


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
    make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    recipe = make_recipe(data={"name": "tiny"}, objective=["cross_entropy"])
    trainee = trained(recipe.model_copy(update={"objective": [HalvesWeights()]}))
    assert any("parametrizations" in name for name in trainee.state_dict())
    before = outputs(trainee.network)
    assert torch.equal(outputs(trainee.finalize()), before)
    assert set(trainee.network.state_dict()) == plain_names(recipe)


@pytest.mark.parametrize(
    "kind", [kind_of(row) for row in EXTENSION_POINTS["objective"] if kind_of(row) != "cross_entropy"]
)
def test_a_term_of_weight_zero_changes_no_bit_of_the_gradients(make_recipe: Callable[..., Recipe], kind: str) -> None:
    def gradients(*terms: Any) -> dict[str, torch.Tensor]:
        beside = {"network": {"kind": "chain", **NETWORKS["chain"]}, **BESIDE.get(kind, {})}
        recipe = make_recipe(**beside, data={"name": "tiny"}, objective=["cross_entropy", *terms])
        data = prepare(recipe)
        trainee = Trainee(recipe, data)
        events, labels = next(data.batches(data.dataset.train, 32, torch.device("cpu")))
        inputs = data.as_floats(events)
        recipe.gradient.gradients(trainee.network, inputs, trainee.loss_of(inputs, labels))
        return {name: p.grad for name, p in trainee.network.named_parameters() if p.grad is not None}

    baseline, with_term = gradients(), gradients({"kind": kind, **ZERO[kind]})
    assert baseline
    for name, value in baseline.items():
        assert torch.equal(value, with_term[name]), name


@pytest.mark.slow
@pytest.mark.parametrize(("point", "row"), CASES)
def test_what_is_declared_is_what_lowering_finds_and_what_lowers_is_equal_in_every_spike(
    make_recipe: Callable[..., Recipe], point: str, row: type[Strict], tmp_path: Path
) -> None:
    recipe = recipe_with(make_recipe, point, row)
    train(recipe, out=tmp_path)
    needs = Trainee(recipe, prepare(recipe)).network.needs
    if needs - LOWERED:
        with pytest.raises(UnsupportedError, match=sorted(needs - LOWERED)[0]):
            quantize(tmp_path, epochs=0)
        return
    recurrent = "recurrence" in needs
    if recurrent:
        with pytest.raises(UnsupportedError, match=r"fine-tuning of a recurrent network by its rates.*--epochs 0"):
            quantize(tmp_path, epochs=1)
    quantize(tmp_path, epochs=0 if recurrent else 1)
    export(tmp_path)
    program = lower(tmp_path / "model.nir", out=tmp_path / "program.safetensors")
    graded = {"graded input"} if recipe.encoder.message_bits > 1 else set()
    assert program.needs() == needs | graded
    report = parity(tmp_path, against=["torch", "fast"])
    assert report.equal


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["resnet", "recurrent"])
def test_graphs_are_equal_in_lava_too(make_recipe: Callable[..., Recipe], kind: str, tmp_path: Path) -> None:
    recipe = make_recipe(
        network={"kind": kind, **NETWORKS[kind]}, gradient="bptt", data={"name": "tiny"}, num_steps=4,
        objective=["cross_entropy"], optimizer={"lr": 0.02, "epochs": 2, "batch_size": 32},
    )  # fmt: skip
    train(recipe, out=tmp_path)
    quantize(tmp_path, epochs=0)
    export(tmp_path)
    program = lower(tmp_path / "model.nir", out=tmp_path / "program.safetensors")
    assert len(program.synapses) > len(program.targets)  # the premise: no chain
    assert parity(tmp_path, against=["lava"], samples=4, record=["u", "v"]).equal


def test_a_decay_that_the_register_cannot_hold_is_on_record_from_the_recipe_to_the_program(
    make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    train(make_recipe(neuron={"decay": 0.3}, objective=["cross_entropy"]), out=tmp_path)
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
    make_recipe: Callable[..., Recipe], kind: str, tmp_path: Path
) -> None:
    recipe = make_recipe(neuron={"decay": 0.5} | NEURONS[kind], data={"name": "tiny"}, objective=["cross_entropy"])
    program = deployed(recipe, tmp_path)
    assert program.needs() == recipe.neuron.needs | {"graded input"}
    assert parity(tmp_path, against=["torch", "fast"], record=["u", "v"]).equal


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["soft reset", "memory gate"])
def test_such_neurons_are_equal_in_lava_too(make_recipe: Callable[..., Recipe], kind: str, tmp_path: Path) -> None:
    recipe = make_recipe(neuron={"decay": 0.5} | NEURONS[kind], data={"name": "tiny"}, objective=["cross_entropy"])
    deployed(recipe, tmp_path, epochs=0)
    assert parity(tmp_path, against=["lava"], samples=4, record=["u", "v"]).equal


def test_a_graded_neuron_trains_and_is_refused_by_name(make_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    recipe = make_recipe(neuron={"decay": 0.5, "output": "graded"}, data={"name": "tiny"}, objective=["cross_entropy"])
    train(recipe, out=tmp_path)
    with pytest.raises(UnsupportedError, match="graded spikes"):
        quantize(tmp_path, epochs=0)


def test_what_a_float_reader_would_compute_otherwise_is_not_run_as_floats(
    make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    recipe = make_recipe(neuron={"decay": 0.5, "reset": "subtract"}, data={"name": "tiny"}, objective=["cross_entropy"])
    deployed(recipe, tmp_path, epochs=0)
    with pytest.raises(UnsupportedError, match="reset subtract of layer1_lif"):
        choose_contract(read_float_graph(tmp_path / "model.nir"), None)


@pytest.mark.parametrize("gradient", ["rate", {"kind": "rate", "form": "single_step"}])
def test_recurrence_is_refused_by_rules_on_averages(make_recipe: Callable[..., Recipe], gradient: Any) -> None:
    network = {"kind": "recurrent", "units": [8]}
    with pytest.raises(LavatubeError, match=r"recurrent network cannot be trained on time averages.*bptt"):
        train(make_recipe(network=network, gradient=gradient, normalization="tse", data={"name": "tiny"}))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vgg", "resnet", "sew_resnet", "preact_resnet", "bireal_resnet"])
@pytest.mark.parametrize("gradient", ["rate", {"kind": "rate", "form": "single_step"}, "online"], ids=str)
def test_every_feed_forward_network_trains_by_every_rule(
    make_recipe: Callable[..., Recipe], kind: str, gradient: Any
) -> None:
    recipe = make_recipe(
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


def both(first: tuple[str, type[Strict]], second: tuple[str, type[Strict]]) -> dict[str, Any]:
    """A recipe's changes for two methods, one step long; what they choose themselves wins over what they ask for."""
    changes = [changes_for(*first), changes_for(*second)]
    terms = [term for each in changes for term in each.get("objective", ())]
    own = {point: each[point] for (point, _), each in zip((first, second), changes, strict=True) if point in each}
    if neuron := changes[0].get("neuron", {}) | changes[1].get("neuron", {}):
        own["neuron"] = {"decay": 0.5} | neuron
    merged = BASE | changes[1] | changes[0] | own | {"optimizer": {"lr": 0.02, "epochs": 1, "batch_size": 64}}
    return merged | {"objective": list(dict.fromkeys(terms or ["cross_entropy"]))}


def goes_all_the_way(recipe: Recipe, folder: Path) -> None:
    """Trains one step, leaves nothing behind, and exports; or is refused for what it needs, by name."""
    trained_network = train(recipe, out=folder)
    assert set(trained_network.tensors) == plain_names(recipe)
    refused = sorted(Trainee(recipe, prepare(recipe)).network.needs - LOWERED)
    if refused:
        with pytest.raises(UnsupportedError, match=refused[0]):
            quantize(folder, epochs=0)
        return
    quantize(folder, epochs=0)
    assert export(folder).nodes


PAIRS = [
    pytest.param(a, b, id="-".join((a[0], kind_of(a[1]), b[0], kind_of(b[1]))))
    for a, b in combinations(ROWS, 2)
    if (a[0] != b[0] or a[0] == "objective")
    and {a[0], kind_of(b[1])} != {"network", "tandem"} != {kind_of(a[1]), b[0]}  # its teacher has the same layers
]


@pytest.mark.long
@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_every_pair_trains_finalizes_and_exports_or_is_refused_with_the_reason(
    make_recipe: Callable[..., Recipe],
    first: tuple[str, type[Strict]],
    second: tuple[str, type[Strict]],
    tmp_path: Path,
) -> None:
    rules = forbidden(first, second)
    if rules:
        with pytest.raises(LavatubeError, match=rf"does not go with .*: {re.escape(rules[0].reason)}"):
            make_recipe(**both(first, second))
        return
    goes_all_the_way(make_recipe(**both(first, second)), tmp_path)


def forbidden(first: tuple[str, type[Strict]], second: tuple[str, type[Strict]]) -> list[Rule]:
    a, b = ((point, row.model_construct()) for point, row in (first, second))
    return [rule for rule in rules_of(a, b) if not rule.allowed]  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind_of(row) for row in EXTENSION_POINTS["sparsity"]])
def test_sparsity_goes_with_all_terms_together(make_recipe: Callable[..., Recipe], kind: str, tmp_path: Path) -> None:
    terms = [kind_of(row) for row in EXTENSION_POINTS["objective"] if kind_of(row) != "tandem"]  # another teacher's
    beside = {key: value for term in terms for key, value in BESIDE.get(term, {}).items()}
    recipe = make_recipe(**BASE | beside | {"objective": terms, "sparsity": {"kind": kind, **SETTINGS[kind]}})
    goes_all_the_way(recipe, tmp_path)


@pytest.mark.parametrize("rule", [rule for rule in RULES if not rule.allowed], ids=lambda r: f"{r.first}-{r.second}")
def test_a_forbidden_pair_is_refused_when_the_recipe_is_loaded(make_recipe: Callable[..., Recipe], rule: Rule) -> None:
    rows, settings = [], dict[str, dict[str, Any]]()
    for selector in (rule.first, rule.second):
        (place, *given) = selector.split()
        point, kind = place.split("/")
        rows.append(next((p, row) for p, row in ROWS if (p, kind_of(row)) == (point, kind)))
        settings[point] = {"kind": kind, **dict(each.split("=") for each in given)}
    changes = both(rows[0], rows[1])
    for point, value in settings.items():
        changes |= {point: value | changes.get(point, {})} if isinstance(changes.get(point), dict) else {}
    with pytest.raises(LavatubeError, match=rf"does not go with .*: {re.escape(rule.reason)}$"):
        make_recipe(**changes)


def test_every_selector_of_the_composition_table_means_a_method() -> None:
    known = {f"{point}/{kind_of(row)}" for point, row in ROWS} | {f"{point}/*" for point in EXTENSION_POINTS}
    for rule in RULES:
        assert {rule.first.split()[0], rule.second.split()[0]} <= known, rule
        assert rule.allowed or "*" not in rule.first + rule.second


@pytest.mark.slow
def test_a_quantized_network_is_calibrated_layer_by_layer_without_labels(
    make_recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_recipe(
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
