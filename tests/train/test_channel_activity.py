"""Channel pruning: the scheduled channels live, and the network without the others is the same one, smaller."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lavatube.convert.export import export
from lavatube.convert.quantize import quantize
from lavatube.deploy.lower import lower
from lavatube.deploy.mapping.limits import load_limits
from lavatube.deploy.mapping.map_program import map_program
from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.inputs import make_inputs
from lavatube.sim.counts import count
from lavatube.sim.energy import energy
from lavatube.sim.reference import run_reference
from lavatube.train.loop import Trainee, train_epoch
from lavatube.train.networks.build import build_network, load_network
from lavatube.train.neuron_run import trace
from lavatube.train.optimization import make_optimizer
from lavatube.train.passes.activity import ActivityPass
from lavatube.train.processes import Processes
from lavatube.train.recipe import Recipe
from lavatube.train.run import train
from lavatube.train.samples import prepare
from lavatube.train.sparsity.channel_activity import ChannelActivity
from lavatube.train.sparsity.channels import keep_channels, prunable
from lavatube.train.sparsity.masks import latent_of, live_of
from lavatube.trained import TrainedNetwork

pytestmark = pytest.mark.usefixtures("tiny_data")
MakeRecipe = Callable[..., Recipe]
POOLED = (
    {"conv2d": {"channels": 8, "kernel": 3, "padding": 1}},
    {"avg_pool2d": {"kernel": 2}},
    {"conv2d": {"channels": 12, "kernel": 3, "padding": 1}},
    {"avg_pool2d": {"kernel": 2}},
    {"dense": {"units": 9}},
)


def pruned_recipe(make_recipe: MakeRecipe, layers: Any = POOLED, **changes: Any) -> Recipe:
    sparsity = {"kind": "sca", "keep": 0.4, "regrow": 0.3, "update_every": 2, **changes.pop("sparsity", {})}
    defaults: dict[str, Any] = {"optimizer": {"lr": 0.02, "weight_decay": 0.1, "epochs": 4, "batch_size": 32}}
    return make_recipe(
        layers, **({"sparsity": sparsity, "objective": ["cross_entropy"], "num_steps": 3} | defaults | changes)
    )


def masks(trainee: Trainee) -> list[torch.Tensor]:
    found = [live_of(norm, "weight") for norm in trainee.network.norms()]
    return [live.clone() for live in found if live is not None]


@pytest.mark.parametrize("importance", ["membrane", "rate", "gain", "random"])
def test_as_many_channels_live_as_scheduled_and_only_masked_ones_grow_back(
    make_recipe: MakeRecipe, importance: str
) -> None:
    recipe = pruned_recipe(make_recipe, sparsity={"importance": importance})
    data = prepare(recipe)
    trainee = Trainee(recipe, data)
    steps, states = make_optimizer(trainee, recipe.optimizer), [masks(trainee)]
    gammas: list[list[torch.Tensor]] = [[norm.weight.detach().clone() for norm in trainee.network.norms()]]

    def look(samples: int) -> None:
        states.append(masks(trainee))
        latents = [latent_of(norm, "weight", "test") for norm in trainee.network.norms()]
        for latent, live, before, was_live in zip(latents, states[-1], gammas[-1], states[-2], strict=True):
            still = ~live & ~was_live
            assert torch.equal(latent[still], before[still])  # a masked gain waits as it was
        gammas.append([latent.detach().clone() for latent in latents])

    for epoch in range(4):
        train_epoch(trainee, recipe, data, steps, epoch, Processes(), look)
    regrown = 0
    for number, (before, after) in enumerate(pairwise(states), start=1):
        progress = min(number // 2 * 2, 8) / 8  # changes in the steps 2, 4, 6 and 8 of 12
        ratio = 0.4 + 0.6 * (1 + math.cos(math.pi * progress)) / 2
        for old, new in zip(before, after, strict=True):
            assert int(new.sum()) == max(1, round(ratio * len(new)))
            grown = new & ~old
            regrown += int(grown.sum())
            assert int(grown.sum()) <= int((~old).sum())
    assert regrown > 0
    assert [int(live.sum()) for live in states[-1]] == [3, 5, 4]


def test_a_masked_channel_is_silent_and_its_gain_still_has_a_gradient(make_recipe: MakeRecipe) -> None:
    recipe = pruned_recipe(make_recipe)
    data = prepare(recipe)
    trainee = Trainee(recipe, data)
    norm = trainee.network.norms()[0]
    for name in ("weight", "bias"):
        live = live_of(norm, name)
        assert live is not None
        live[3] = False
    torch.nn.init.constant_(latent_of(norm, "bias", "test"), 5.0)  # which the mask, behind it, hides
    events, labels = next(data.batches(data.dataset.train, 32, torch.device("cpu")))
    seen: dict[str, torch.Tensor] = {}

    def loss(outputs: Any) -> torch.Tensor:
        seen.update(outputs.rates)
        return trainee.objective(outputs, labels)

    recipe.gradient.gradients(trainee.network, data.as_floats(events), loss)
    by_channel = seen["layer1"].sum((0, 2, 3))
    assert by_channel[3] == 0
    assert by_channel.count_nonzero() == 7
    gradient = latent_of(norm, "weight", "test").grad
    assert gradient is not None
    assert gradient[3] != 0
    row = trainee.network.get_submodule("layer1.synapse").weight.grad  # type: ignore[union-attr]
    assert isinstance(row, torch.Tensor)
    assert not row[3].any()


@pytest.mark.parametrize("kind", ["sca", "esl"])
def test_a_layer_without_a_gradient_is_named_instead_of_left_as_it_is(make_recipe: MakeRecipe, kind: str) -> None:
    recipe = make_recipe(POOLED, sparsity={"kind": kind, "update_every": 1}, objective=["cross_entropy"])
    data = prepare(recipe)
    trainee = Trainee(recipe, data)
    for parameter in trainee.network.get_submodule("layer1").parameters():
        parameter.requires_grad_(False)
    with pytest.raises(LavatubeError, match=rf"layer1.*{kind} needs gradients, and none reaches this layer"):
        train_epoch(trainee, recipe, data, make_optimizer(trainee, recipe.optimizer), 0, Processes())


@pytest.mark.parametrize("kind", ["sca", "esl"])
def test_a_run_too_short_to_prune_is_refused_in_its_first_step(make_recipe: MakeRecipe, kind: str) -> None:
    settings = {"objective": ["cross_entropy"], "optimizer": {"lr": 0.02, "epochs": 4, "batch_size": 32}}  # 12 steps
    with pytest.raises(LavatubeError, match=rf"so short that {kind} never.*at most 0\.75 x 12 steps, got 10"):
        train(make_recipe(POOLED, sparsity={"kind": kind, "update_every": 10}, **settings))
    train(make_recipe(POOLED, sparsity={"kind": kind, "update_every": 9}, **settings))


@pytest.mark.parametrize(("batch_size", "update_every"), [(95, 2), (19, 5), (96, 2), (32, 3)])
def test_the_schedule_ends_at_what_was_asked_also_where_a_sample_is_left_over(
    make_recipe: MakeRecipe, batch_size: int, update_every: int
) -> None:
    """96 samples in batches of 95 or 19 leave one, which joins the batch before it: a step less."""
    optimizer = {"lr": 0.02, "epochs": 4, "batch_size": batch_size}
    trained = train(pruned_recipe(make_recipe, optimizer=optimizer, sparsity={"update_every": update_every}))
    assert [len(trained.tensors[f"layer{number}.norm.weight"]) for number in (1, 2, 3)] == [3, 5, 4]


def test_a_gradient_that_is_not_finite_prunes_as_scheduled_and_regrows_nothing(make_recipe: MakeRecipe) -> None:
    sparsity = pruned_recipe(make_recipe).sparsity
    assert isinstance(sparsity, ChannelActivity)
    live, importance = torch.tensor([True] * 8 + [False] * 2), torch.arange(10.0)
    chosen = sparsity._chosen(live, importance, torch.full((10,), torch.nan), 0.5)
    assert chosen.nonzero().flatten().tolist() == [1, 2, 3, 4, 5, 6, 7]


NETWORKS: list[Any] = [
    {"kind": "vgg", "width": 4},
    {"kind": "resnet", "width": 4},
    None,
]


@pytest.mark.parametrize("network", NETWORKS, ids=["vgg", "resnet", "pooled chain"])
def test_the_network_without_the_masked_channels_has_the_same_spikes(make_recipe: MakeRecipe, network: Any) -> None:
    changes = {} if network is None else {"network": network}
    recipe = pruned_recipe(make_recipe, **changes)
    built = build_network(recipe, (1, 16, 16), 10)
    generator = torch.Generator().manual_seed(1)
    for norm in built.norms():
        norm.running_mean.uniform_(-0.1, 0.1, generator=generator)
        norm.running_var.uniform_(0.005, 0.02, generator=generator)
        torch.nn.init.uniform_(norm.bias, 0.0, 0.5, generator=generator)
    assert recipe.sparsity is not None
    recipe.sparsity.attach(built)
    parts = prunable(built)
    for part in parts:
        gone = torch.randperm(len(part.norm.weight), generator=generator)[: len(part.norm.weight) // 2]
        for name in ("weight", "bias"):
            live = live_of(part.norm, name)
            assert live is not None
            live[gone] = False
    inputs = torch.rand(6, 1, 16, 16, generator=generator)
    masked = built.eval().double()
    before = masked(inputs.double())
    names = [part.name for part in parts]
    lives = {part.name: live_of(part.norm, "weight") for part in parts}
    recipe.sparsity.finalize(built)
    after = built(inputs.double())
    torch.testing.assert_close(after.logits, before.logits, rtol=0, atol=1e-6)
    for name, rate in before.rates.items():
        live = lives.get(name)
        assert torch.equal(after.rates[name], rate if live is None else rate[:, live]), name
    assert any(rate.any() for rate in after.rates.values())
    if network and network["kind"] == "resnet":  # what shortcuts add up keeps its channels
        assert names
        assert all(name.endswith(".first") for name in names)
    for module in built.modules():
        if isinstance(module, torch.nn.Conv2d):
            assert tuple(module.weight.shape[:2]) == (module.out_channels, module.in_channels)


def test_the_measured_activity_is_that_of_the_neurons(make_recipe: MakeRecipe) -> None:
    recipe = pruned_recipe(make_recipe)
    network = build_network(recipe, (1, 8, 8), 10).eval()
    inputs = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 20
    activity = ActivityPass(3)
    with torch.no_grad():
        outputs = network(inputs, activity)
        plain = network(inputs)
        layer = network.get_submodule("layer1")
        current = layer.norm.normalize(layer.current(inputs).unsqueeze(0), layer.norm.observe(torch.empty(1)))  # type: ignore
        spikes, *_ = trace(current, recipe.neuron, 3)
    assert torch.equal(outputs.logits, plain.logits)
    torch.testing.assert_close(activity.events["layer1"], spikes.mean((0, 1, 3, 4)))
    v, sums = torch.zeros_like(current[0]), []
    for s in spikes:
        u = recipe.neuron.decay * v + current[0]
        sums.append(u.abs().mean((0, 2, 3)))
        v = u * (1 - s)
    torch.testing.assert_close(activity.voltages["layer1"], torch.stack(sums).mean(0))


def test_what_has_no_channels_to_prune_is_refused_by_name(make_recipe: MakeRecipe) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"normalization": None}, r"sca finds no channels to prune.*normalised layer"),
        ({"network": {"kind": "recurrent", "units": [8]}, "gradient": "bptt"}, r"feedback ties every channel"),
        ({"network": {"kind": "sew_resnet", "width": 2}}, r"sums of spikes tie the channels"),
        *(
            ({"neuron": neuron, "gradient": "bptt"}, r"layer1.*a channel without current would fire")
            for neuron in (
                {"decay": 0.5, "v_initial": 3.0},
                {"decay": 1, "reset": "subtract", "fire_at": 0.5, "v_initial": 0.6},
                {"decay": 0.9, "output": "signed", "v_initial": -1.5},
                {"decay": 0.9, "output": "signed", "v_threshold_low": 0, "v_initial": -0.1},
            )
        ),
    ]
    for changes, message in cases:
        with pytest.raises((LavatubeError, UnsupportedError), match=message):
            Trainee(recipe := pruned_recipe(make_recipe, **changes), prepare(recipe))
    gated = {"decay": 0.9, "output": "signed", "v_threshold_low": 0, "v_initial": -0.1, "memory_gate": True}
    Trainee(recipe := pruned_recipe(make_recipe, neuron=gated, gradient="bptt"), prepare(recipe))


@pytest.mark.slow
def test_the_program_of_the_pruned_network_is_smaller_in_neurons_synapses_and_events(
    make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    programs = {}
    for name, sparsity in (("whole", None), ("pruned", {"kind": "sca", "keep": 0.25, "update_every": 1})):
        folder = tmp_path / name
        recipe = pruned_recipe(make_recipe).model_dump(mode="json")
        train(make_recipe(POOLED, **{k: v for k, v in recipe.items() if k not in ("network", "sparsity")},
                          sparsity=sparsity), out=folder)  # fmt: skip
        quantize(folder, epochs=1)
        export(folder)
        programs[name] = lower(folder / "model.nir", out=folder / "program.safetensors")
    neurons = {name: [node.shape for node in program.targets] for name, program in programs.items()}
    assert neurons == {
        "whole": [(8, 8, 8), (12, 4, 4), (9,), (10,)],
        "pruned": [(2, 8, 8), (3, 4, 4), (2,), (10,)],
    }
    events = np.random.default_rng(0).integers(0, 256, (3, 4, 1, 8, 8))
    counted = {
        name: count(program, run_reference(program, make_inputs(events, program.inputs, default_steps=3)))
        for name, program in programs.items()
    }
    counts = {name: each.total for name, each in counted.items()}
    before, after = (energy(counted[name]) for name in ("whole", "pruned"))
    assert 0 < after.low * 2 < before.low  # type: ignore[operator]
    assert 0 < after.high * 2 < before.high  # type: ignore[operator]
    assert counts["pruned"].synops_dense * 4 < counts["whole"].synops_dense
    assert counts["pruned"].neuron_accesses * 3 < counts["whole"].neuron_accesses
    loihi2 = load_limits("loihi2")
    fewer = [vars(limit) | {"value": 128 if key == "neurons" else limit.value} for key, limit in loihi2.limits.items()]
    limits = tmp_path / "small.json"  # small cores, for a small network
    limits.write_text(json.dumps({"schema": 1, "name": "small", "extends": "loihi2", "limits": fewer}), "utf-8")
    cores = {name: map_program(program, target=limits).cores for name, program in programs.items()}
    assert [len(cores[name]) for name in ("whole", "pruned")] == [8, 4]
    words = [sum(core.loads["synapse_words"] for core in cores[name]) for name in ("pruned", "whole")]
    assert words[0] * 3 < words[1]


def test_a_file_whose_channels_make_no_sense_is_refused(make_recipe: MakeRecipe) -> None:
    recipe = pruned_recipe(make_recipe)
    network = build_network(recipe, (1, 8, 8), 10)
    for part in prunable(network):
        keep_channels(part, [1, 2])
    tensors = {name: value.detach().numpy() for name, value in network.state_dict().items()}
    whole = TrainedNetwork(recipe.model_dump(mode="json"), tensors, {})
    assert load_network(whole, (1, 8, 8), 10).get_submodule("layer1.synapse").weight.shape == (2, 1, 3, 3)  # type: ignore
    for shape in ((0, 1, 3, 3), (9, 1, 3, 3), (), (3,)):
        broken = dict(tensors) | {"layer1.synapse.weight": np.zeros(shape, np.float32)}
        with pytest.raises(LavatubeError, match=r"tensor layer\d\..* does not fit the recipe"):
            load_network(TrainedNetwork(recipe.model_dump(mode="json"), broken, {}), (1, 8, 8), 10)
