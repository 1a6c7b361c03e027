"""Recipes of every method on a tiny data set: what the tests of all methods share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lavatube.train.datasets import catalog
from lavatube.train.datasets.dataset import Dataset, Split
from lavatube.train.datasets.digits import load_digits
from lavatube.train.encoders import Encoder
from lavatube.train.extension_points import EXTENSION_POINTS
from lavatube.train.loop import Trainee, train_epoch
from lavatube.train.networks.build import build_network
from lavatube.train.networks.network import SpikingNetwork
from lavatube.train.norms.estimators import Pooled
from lavatube.train.norms.time_stat import TimeStatNorm
from lavatube.train.optimization import make_optimizer
from lavatube.train.plugin import Plugin
from lavatube.train.processes import Processes
from lavatube.train.recipe import Recipe
from lavatube.train.recipe_model import Strict, kind_of
from lavatube.train.run import train
from lavatube.train.samples import prepare
from lavatube.train.sparsity.structure_evolution import synapses
from lavatube.train.teachers.load import MEAN_IS_THE_IMAGE

CONVS = [{"conv2d": {"channels": 4, "kernel": 3, "padding": 1}}, {"conv2d": {"channels": 6, "kernel": 3, "stride": 2}}]
NETWORKS: dict[str, dict[str, Any]] = {
    "chain": {"layers": [*CONVS, {"avg_pool2d": {"kernel": 7}}, {"dense": {"units": 10}}]},
    "vgg": {"width": 2},
    "resnet": {"depth": 6, "width": 2},
    "sew_resnet": {"depth": 6, "width": 2},
    "preact_resnet": {"depth": 6, "width": 2},
    "bireal_resnet": {"depth": 6, "width": 2},
    "recurrent": {"units": [12, 8]},
}
ZERO: dict[str, dict[str, Any]] = {  # the settings with which a term is 0: its weights are, unless it says otherwise
    kind_of(row): {name: 0.0 for name in row.model_fields if name.endswith("weight")}
    for row in EXTENSION_POINTS["objective"]
} | {"self_distillation": {"form": "final", "alpha": 0.0, "beta": 0.0, "channels": 8}}
ANALOG: dict[str, Any] = {  # a rectified linear unit: graded, above next to nothing, of one timestep
    "num_steps": 1,
    "neuron": {
        "decay": 1,
        "output": "graded",
        "v_threshold": 1e-6,
        "surrogate": {"kind": "rectangular", "width": 1e-6},
    },
    "objective": ["cross_entropy"],
    "gradient": "bptt",
}
SETTINGS: dict[str, dict[str, Any]] = {  # of methods whose defaults would do nothing in a few steps, or take long
    "dspike": {"directions": 2},
    "esl": {"density": 0.3, "exchange": 0.5},
    "sca": {"keep": 0.5, "regrow": 0.3},
}
SAME_LAYERS = {"tandem", "local_tandem", "mpfd"}  # as the teacher's
BESIDE: dict[str, dict[str, Any]] = {  # what a recipe with a method needs besides it
    "self_ensemble": {"gradient": "bptt"},
    "mpfd": {"gradient": "bptt"},
    "dsr": {"neuron": {"decay": 1, "reset": "subtract", "fire_at": 0.5}},
    "local_tandem": {"objective": ["cross_entropy", "tandem"], "normalization": "tse"},  # of use in both forms
    "qcfs": {"neuron": {"decay": 1, "reset": "subtract", "v_initial": 0.25}},
    "vgg": {"neuron": {"decay": 0.5, "v_threshold": 0.25}},  # or the last of eight layers of so few neurons are silent
}  # fmt: skip
ROWS = [(point, row) for point, rows in EXTENSION_POINTS.items() for row in rows]
CASES = [pytest.param(point, row, id=f"{point}-{kind_of(row)}") for point, row in ROWS]
PUPILS = {kind_of(row) for _, row in ROWS if issubclass(row, Plugin) and row.needs_teacher}


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """A data set `tiny`: digits drawn 16 pixels wide; and `tiny-sequence`: the same, brighter at each timestep.

    Running averages follow fast: after a few steps they would else be nearly 0 and 1, with which hardly a neuron fires.
    """
    monkeypatch.setitem(TimeStatNorm.__init__.__kwdefaults__, "momentum", 0.9)  # type: ignore[index]
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


@pytest.fixture
def tiny_recipe(
    make_recipe: Callable[..., Recipe], tiny: None, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Recipe]:
    """As the shared fixture; a recipe with a method that learns from a teacher gets one, a small network of rates."""

    def make(**changes: Any) -> Recipe:
        chosen = [*changes.get("objective", ()), *(changes.get(point) for point in EXTENSION_POINTS)]
        kinds = {each.get("kind") if isinstance(each, dict) else each for each in chosen if not isinstance(each, list)}
        if not kinds & PUPILS:
            return make_recipe(**changes)
        settings = teacher_of(changes, kinds)
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        folder = tmp_path_factory.getbasetemp() / f"teacher-{digest[:16]}"
        if not folder.exists():
            train(make_recipe(**settings), out=folder)
        return make_recipe(**changes, teacher={"kind": "run", "folder": str(folder)})

    return make


BASE: dict[str, Any] = {
    "network": {"kind": "chain", **NETWORKS["chain"]},
    "objective": ["cross_entropy"],
    "data": {"name": "tiny"},
    "optimizer": {"lr": 0.02, "epochs": 2, "batch_size": 32},
    "num_steps": 3,
}


def teacher_of(changes: Mapping[str, Any], kinds: Collection[str]) -> dict[str, Any]:
    """A network of rates for a recipe: of the same layers where methods of these kinds ask for it, else wider."""
    wider = [{"conv2d": {**layer["conv2d"], "channels": 5}} for layer in CONVS]
    network = {"kind": "chain", "layers": [*wider, {"dense": {"units": 10}}]}
    if SAME_LAYERS & set(kinds):
        network = changes["network"]
    encoder = changes.get("encoder", "direct")
    means = (encoder["kind"] if isinstance(encoder, dict) else encoder) in MEAN_IS_THE_IMAGE
    events = {"data": {"name": "tiny"}} if means else {key: changes[key] for key in ("encoder", "data", "num_steps")}
    return ANALOG | events | {"network": network, "optimizer": {"lr": 0.02, "epochs": 1, "batch_size": 32}}


def recipe_with(make_recipe: Callable[..., Recipe], point: str, row: type[Strict]) -> Recipe:
    return make_recipe(**BASE | changes_for(point, row))


def changes_for(point: str, row: type[Strict]) -> dict[str, Any]:
    """What of `BASE` is to change for a method."""
    kind, changes = kind_of(row), dict[str, Any]()
    if point == "surrogate":
        changes["neuron"] = {"decay": 0.5, "surrogate": {"kind": kind, **SETTINGS.get(kind, {})}}
    elif point == "objective":
        changes["objective"] = list(dict.fromkeys(["cross_entropy", kind]))
    elif point == "network":
        changes[point] = {"kind": kind, **NETWORKS[kind]}
        changes["gradient"] = "bptt"
    else:
        soon = {"update_every": 1} if point == "sparsity" else {}
        changes[point] = {"kind": kind, **soon, **SETTINGS.get(kind, {})}
        if issubclass(row, Encoder) and not row.for_static:
            changes["data"] = {"name": "tiny-sequence"}
    if kind == "online":
        changes["normalization"] = "tse"
    changes |= BESIDE.get(kind, {})
    return changes


def trained(recipe: Recipe, epochs: int = 2) -> Trainee:
    data = prepare(recipe)
    trainee = Trainee(recipe, data)
    optimizer = make_optimizer(trainee, recipe.optimizer)
    for epoch in range(epochs):
        train_epoch(trainee, recipe, data, optimizer, epoch, Processes())
    return trainee


def anatomy(network: nn.Module) -> dict[str, object]:
    """What a network is made of: by module its class, attributes, parameters, buffers, and hooks of all kinds."""
    found: dict[str, object] = {}
    for name, module in network.named_modules():
        own = dict(module.named_parameters(recurse=False))
        found |= {f"{name}: hook of {key}": True for key, p in own.items() if p._backward_hooks}
        found |= {f"{name}: hook of {key}": True for key, p in own.items() if p._post_accumulate_grad_hooks}
        found |= {f"{name}: parameter {key}": p.requires_grad for key, p in own.items()}
        found |= {f"{name}: buffer {key}": True for key, value in module.named_buffers(recurse=False)}
        for key, value in vars(module).items():
            if key.endswith("hooks"):
                found |= {f"{name}: {key}": True} if value else {}
            elif value is not None:
                found[f"{name}: {key}"] = value if isinstance(value, bool) and key != "training" else True
        found[name] = type(module)
    return found


def left_behind(network: nn.Module, recipe: Recipe) -> list[str]:
    """In words, where a finalized network differs from the network of a recipe none of whose methods did anything."""
    data = prepare(recipe)
    plain = recipe.model_copy(update={"normalization": Pooled() if recipe.normalization else None})
    there, expected = anatomy(network), anatomy(build_network(plain, data.shape, data.classes))
    hooks_on_all = [name for name, hooks in vars(nn.modules.module).items() if name.endswith("_hooks") and hooks]
    return hooks_on_all + [
        f"{key}: {there.get(key, 'nothing')}, expected {expected.get(key, 'nothing')}"
        for key in there.keys() | expected.keys()
        if there.get(key) != expected.get(key)
    ]


def assert_promises(network: SpikingNetwork, recipe: Recipe) -> None:
    """What a weight rule and a sparsity schedule promise of every finalized network, whatever was beside them."""
    sparsity = recipe.sparsity
    if recipe.weight is not None:
        most = recipe.weight.values_per_channel + (sparsity is not None and sparsity.unit == "weight")
        for layer in recipe.weight.chosen(network):
            assert max(len(row.unique()) for row in layer.synapse.weight.detach().flatten(1)) <= most
    if sparsity is not None:
        whole = build_network(recipe, network.input_shape, 10)
        live, of = (sum(int(each.weight.count_nonzero()) for each in synapses(net)) for net in (network, whole))
        assert live < 0.9 * of


def outputs(network: SpikingNetwork) -> torch.Tensor:
    """Of 32 samples, logits and summed rates of every population. The premise: they all fire, and samples differ."""
    with torch.no_grad():
        found = network.eval()(torch.rand(32, *network.input_shape, generator=torch.Generator().manual_seed(0)))
    assert set(found.rates) == {population.name for population in network.populations()}
    sums = [rate.double().flatten(1).sum(1) for rate in found.rates.values()]  # exact, in whatever order
    assert all(each.any() for each in sums), f"silent: {[name for name, rate in found.rates.items() if not rate.any()]}"
    assert found.logits.unique(dim=0).shape[0] > 1
    return torch.cat([found.logits.double(), torch.stack(sums, 1)], 1)
