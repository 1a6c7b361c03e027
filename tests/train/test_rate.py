"""Rate-based backpropagation against backpropagation through time, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from lavatube.errors import LavatubeError
from lavatube.train.gradients.bptt import Bptt
from lavatube.train.gradients.online import Online
from lavatube.train.gradients.rate import RateBased
from lavatube.train.gradients.rule import GradientRule
from lavatube.train.networks.build import build_network
from lavatube.train.networks.network import SpikingNetwork
from lavatube.train.passes.rate import RatePass, RateStraightThrough
from lavatube.train.passes.through_time import ThroughTime
from lavatube.train.recipe import Recipe, parse_recipe
from lavatube.train.seq import Outputs

Make = Callable[..., SpikingNetwork]
MULTI, SINGLE, BPTT, ONLINE = RateBased(), RateBased(form="single_step"), Bptt(), Online()
LABELS = torch.arange(6)
NORMS = [None, "pooled", "causal", "per_step", "running", "tse"]
STEP_BY_STEP = [None, "causal", "per_step", "running", "tse"]
NEURONS: list[dict[str, Any]] = [
    {},
    {"reset": "subtract"},
    {"detach_reset": False},
    {"reset": "subtract", "detach_reset": False, "v_threshold": 0.7},
    {"output": "signed"},
    {"output": "graded"},
]


def inputs(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def gradients(network: SpikingNetwork, x: torch.Tensor, rule: GradientRule) -> dict[str, torch.Tensor]:
    network.zero_grad()
    loss = rule.gradients(network, x, lambda outputs: F.cross_entropy(outputs.logits, LABELS[: len(outputs.logits)]))
    assert not loss.requires_grad
    return {
        name: parameter.grad.clone() for name, parameter in network.named_parameters() if parameter.grad is not None
    }


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], names: list[str] | None = None) -> None:
    for name in names or a:
        assert a[name].abs().max() > 0, name
        torch.testing.assert_close(a[name], b[name], rtol=1e-10, atol=1e-14, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("neuron", NEURONS, ids=str)
@pytest.mark.parametrize("norm", NORMS)
def test_with_one_timestep_every_rule_is_bptt_at_any_depth(
    make_network: Make, norm: Any, neuron: dict[str, Any]
) -> None:
    def of(rule: GradientRule) -> dict[str, torch.Tensor]:
        return gradients(make_network(3, num_steps=1, normalization=norm, **neuron), inputs(6, 2, 5, 5), rule)

    wanted = of(BPTT)
    assert_same(wanted, of(MULTI))
    if norm in STEP_BY_STEP:
        assert_same(wanted, of(SINGLE))
        assert_same(wanted, of(ONLINE))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("decay", [0.5, 1.0])
def test_with_one_spiking_layer_and_static_input_the_gradient_is_that_of_bptt(
    make_network: Make, norm: Any, decay: float
) -> None:
    for neuron in NEURONS:

        def of(rule: GradientRule, neuron: dict[str, Any] = neuron) -> dict[str, torch.Tensor]:
            network = make_network(1, num_steps=6, decay=decay, normalization=norm, **neuron)
            return gradients(network, inputs(6, 2, 5, 5), rule)

        assert_same(of(BPTT), of(MULTI))
        if norm in STEP_BY_STEP:
            assert_same(of(BPTT), of(SINGLE))


@pytest.mark.parametrize("norm", NORMS)
def test_without_memory_and_with_static_input_the_gradient_is_that_of_bptt_at_any_depth(
    make_network: Make, norm: Any
) -> None:
    for neuron in NEURONS:

        def of(rule: GradientRule, neuron: dict[str, Any] = neuron) -> dict[str, torch.Tensor]:
            network = make_network(3, num_steps=5, decay=0.0, normalization=norm, **neuron)
            return gradients(network, inputs(6, 2, 5, 5), rule)

        assert_same(of(BPTT), of(MULTI))
        if norm in STEP_BY_STEP:
            assert_same(of(BPTT), of(SINGLE))


@pytest.mark.parametrize("norm", NORMS)
def test_readout_and_last_bias_gradients_are_exact_for_any_input(make_network: Make, norm: Any) -> None:
    def of(rule: GradientRule) -> dict[str, torch.Tensor]:
        return gradients(make_network(3, num_steps=5, normalization=norm), 2 * inputs(5, 6, 2, 5, 5), rule)

    exact = ["layer4.synapse.weight", "layer4.synapse.bias", "layer3.norm.bias" if norm else "layer3.synapse.bias"]
    rate, bptt = of(MULTI), of(BPTT)
    assert_same(rate, bptt, exact)
    difference = (rate["layer1.synapse.weight"] - bptt["layer1.synapse.weight"]).abs().max()
    assert difference > 1e-6, "the other gradients are approximations: this test would see a mix-up of the two rules"


def test_what_the_rule_drops_are_the_two_covariances_over_time(make_network: Make) -> None:
    network, x = make_network(2, num_steps=5, normalization=None), 2 * inputs(5, 6, 2, 5, 5)
    seen: dict[str, torch.Tensor] = {}

    class Watch(ThroughTime):
        def linear(self, module: Any, value: Any) -> Any:
            out = super().linear(module, value)
            out.steps.retain_grad()
            seen[f"in{len(seen) // 2}"], seen[f"current{len(seen) // 2}"] = value.steps, out.steps
            return out

    F.cross_entropy(network(x, Watch(5)).logits, LABELS).backward()
    delta, spikes = seen["current2"].grad, seen["in2"].flatten(2)
    assert delta is not None
    kept = torch.einsum("bo,bi->oi", delta.sum(0), spikes.mean(0))
    dropped = torch.einsum("tbo,tbi->oi", delta - delta.mean(0), spikes - spikes.mean(0))
    weight = network.chain()[2][1].synapse.weight
    torch.testing.assert_close(kept + dropped, weight.grad, rtol=1e-12, atol=1e-12)
    # second identity, at the hidden layer: q[t] is the tangent of the output, epsilon[t] its gradient
    from lavatube.train.neuron_run import Trace, at_rest

    population = network.chain()[1][1].neurons
    assert population is not None
    current, epsilon = seen["current1"].detach(), torch.einsum("tbo,oi->tbi", delta, weight).detach()
    running, q, before = Trace(population.spec, at_rest(population.spec, current[0])), [], 0.0
    for value in current:
        running.advance(value)
        q.append(running.eligibility - before)
        before = running.eligibility.clone()
    tangent = torch.stack(q).flatten(2)
    by_shift = (tangent.mean(0) * epsilon.sum(0)) + ((tangent - tangent.mean(0)) * (epsilon - epsilon.mean(0))).sum(0)
    wanted = seen["current1"].grad
    assert wanted is not None
    torch.testing.assert_close(by_shift, wanted.sum(0).flatten(1), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("iterations", [1, 2])
@pytest.mark.parametrize(
    ("rule", "norm"), [(MULTI, "pooled"), (MULTI, "tse"), (SINGLE, "causal"), (SINGLE, "tse")], ids=str
)
def test_directions_and_sizes_are_those_of_bptt_within_the_published_bounds(
    rule: RateBased, norm: str, iterations: int
) -> None:
    hidden = [{"dense": {"units": 64}}] * 3
    recipe = parse_recipe(
        {
            "name": "t", "num_steps": 8, "data": {"name": "digits"},
            "network": {"kind": "chain", "layers": [*hidden, {"dense": {"units": 10}}]},
            "normalization": norm,
            "neuron": {"decay": 0.2, "reset": "subtract"},
            "optimizer": {"lr": 1, "epochs": 1, "batch_size": 1},
        },
        where="test",
    )  # fmt: skip
    x = torch.randn(2, 128, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, 10, (128,), generator=torch.Generator().manual_seed(1))
    found = []
    for each in (rule, BPTT):
        network = build_network(recipe, (64,), 10).double()
        for batch in x[:iterations]:  # from the second on, tse uses rows of the one before
            network.zero_grad()
            each.gradients(network, batch, lambda outputs: F.cross_entropy(outputs.logits, labels))
        found.append({name: p.grad for name, p in network.named_parameters() if p.grad is not None and p.ndim > 1})
    for name, wanted in found[1].items():
        got = found[0][name]
        cosine = float((got * wanted).sum() / got.norm() / wanted.norm())
        assert cosine >= 0.97, (name, cosine)
        assert 0.95 <= float(got.norm() / wanted.norm()) <= 1.05, name


@pytest.mark.parametrize("shape", [(6, 2, 5, 5), (4, 6, 2, 5, 5)], ids=["static", "dynamic"])
@pytest.mark.parametrize("norm", NORMS)
def test_values_in_rate_mode_are_those_of_the_spiking_network(
    make_network: Make, shape: tuple[int, ...], norm: Any
) -> None:
    rate = make_network(3, normalization=norm)(inputs(*shape), RatePass(4))
    spiking = make_network(3, normalization=norm)(inputs(*shape))
    torch.testing.assert_close(rate.logits, spiking.logits, rtol=0, atol=1e-12)
    assert list(rate.taps) == ["layer1", "layer2", "layer3"]
    for name, value in spiking.rates.items():
        assert 0 < value.mean() < 1
        torch.testing.assert_close(rate.rates[name], value, rtol=0, atol=1e-14)
    for name, value in spiking.biases.items():
        torch.testing.assert_close(rate.biases[name](), value(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", STEP_BY_STEP)
def test_step_by_step_the_network_spikes_as_it_does_layer_by_layer(make_network: Make, norm: Any) -> None:
    rates: list[Outputs] = []
    for rule in (SINGLE, BPTT):
        network = make_network(3, normalization=norm)
        for _ in range(2):  # the second iteration uses what the first left in the normalisation
            rule.gradients(network, 2 * inputs(4, 6, 2, 5, 5), lambda o: (rates.append(o), o.logits.square().mean())[1])
    for single, bptt in zip(rates[:2], rates[2:], strict=True):
        for name, value in bptt.rates.items():
            torch.testing.assert_close(single.rates[name], value, rtol=0, atol=1e-14)
        torch.testing.assert_close(single.logits, bptt.logits, rtol=0, atol=1e-12)


def test_with_running_statistics_single_step_is_multi_step(make_network: Make) -> None:
    single, multi = (
        gradients(make_network(3, normalization="running"), 2 * inputs(4, 6, 2, 5, 5), rule) for rule in (SINGLE, MULTI)
    )
    assert_same(single, multi)


def saved_bytes(run: Callable[[], object]) -> int:
    """What autograd keeps for the backward pass."""
    total = 0

    def count(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal total
        total += tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        run()
    return total


@pytest.mark.parametrize(
    ("rule", "norm"), [(MULTI, "pooled"), (MULTI, "running"), (SINGLE, "tse"), (SINGLE, "causal")], ids=str
)
@pytest.mark.parametrize("dynamic", [False, True])
def test_no_graph_over_time_is_kept(make_network: Make, rule: RateBased, norm: str, dynamic: bool) -> None:
    def kept(num_steps: int, each: GradientRule) -> int:
        x = inputs(*([num_steps] if dynamic else []), 6, 2, 5, 5)
        return saved_bytes(lambda: gradients(make_network(3, num_steps=num_steps, normalization=norm), x, each))

    assert kept(2, rule) == kept(8, rule)
    assert kept(8, BPTT) > 2 * kept(2, BPTT)


def test_online_learning_keeps_the_graph_of_one_timestep_only(make_network: Make) -> None:
    def per_step(num_steps: int) -> float:
        network, x = make_network(3, num_steps=num_steps, normalization="causal"), inputs(num_steps, 6, 2, 5, 5)
        peaks: list[int] = []
        total = 0

        def count(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal total
            total += tensor.numel() * tensor.element_size()
            return tensor

        def backward(loss: torch.Tensor) -> None:
            nonlocal total
            peaks.append(total)
            total = 0
            loss.backward()  # type: ignore[no-untyped-call]

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            ONLINE.gradients(network, x, lambda o: F.cross_entropy(o.logits, LABELS), backward)
        assert len(peaks) == num_steps
        return max(peaks) / peaks[0]

    assert per_step(6) < 1.1  # the rows of [C] moments are all that grows


@pytest.mark.parametrize("shape", [(6, 2, 5, 5), (4, 6, 2, 5, 5)], ids=["static", "dynamic"])
@pytest.mark.parametrize("norm", NORMS)
def test_the_state_after_a_step_is_the_same_for_every_rule(
    make_network: Make, shape: tuple[int, ...], norm: Any
) -> None:
    rules = [BPTT, MULTI, *([SINGLE, ONLINE] if norm in STEP_BY_STEP else [])]
    states = []
    for rule in rules:
        network = make_network(2, normalization=norm)
        gradients(network, inputs(*shape), rule)
        states.append(network.state_dict())
    if norm:
        assert not torch.equal(states[0]["layer1.norm.running_var"], torch.ones(4, dtype=torch.float64))
    for state in states[1:]:
        assert list(state) == list(states[0])
        for name in states[0]:
            torch.testing.assert_close(state[name], states[0][name], rtol=1e-12, atol=1e-14)


def test_the_published_gradient_scale_divides_by_the_number_of_timesteps(make_network: Make) -> None:
    exact = gradients(make_network(2), inputs(6, 2, 5, 5), MULTI)
    scaled = gradients(make_network(2), inputs(6, 2, 5, 5), RateBased(grad_scale="1/T"))
    assert_same({name: value / 4 for name, value in exact.items()}, scaled)


@pytest.mark.parametrize("bias", [-50.0, 50.0], ids=["silent", "always spiking"])
def test_silent_and_saturated_layers_give_finite_gradients(make_network: Make, bias: float) -> None:
    network = make_network(2)
    with torch.no_grad():
        norm = network.chain()[0][1].norm
        assert norm is not None
        norm.bias.fill_(bias / 20)
        norm.weight.fill_(0.01)
    rate = network(inputs(6, 2, 5, 5)).rates["layer1"].detach()
    assert torch.equal(rate, torch.full_like(rate, float(bias > 0)))
    for name, gradient in gradients(network, inputs(6, 2, 5, 5), MULTI).items():
        assert torch.isfinite(gradient).all(), name
        if name.startswith("layer1"):
            assert gradient.abs().max() > 0, name


def test_permuted_frames_change_the_spikes_but_not_the_rate_pass_input(make_network: Make) -> None:
    frames = 2 * inputs(4, 6, 2, 5, 5)
    seen: list[torch.Tensor] = []

    class Watch(RatePass):
        def linear(self, module: Any, x: Any) -> Any:
            seen.append(x.rate)
            return super().linear(module, x)

    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        make_network(2)(frames[order], Watch(4))
    torch.testing.assert_close(seen[0], seen[3])
    assert not torch.equal(seen[1], seen[4])


@pytest.mark.parametrize("rule", [MULTI, SINGLE])
def test_an_exception_in_the_spiking_pass_leaves_autograd_on(
    make_network: Make, monkeypatch: pytest.MonkeyPatch, rule: RateBased
) -> None:
    def fail(*args: object) -> None:
        assert not torch.is_grad_enabled()
        raise ZeroDivisionError

    monkeypatch.setattr("lavatube.train.neuron_run.partials", fail)
    with pytest.raises(ZeroDivisionError):
        gradients(make_network(2, normalization="causal"), inputs(6, 2, 5, 5), rule)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("num_steps", [1, 4])
@pytest.mark.parametrize(("rule", "norm"), [(MULTI, "pooled"), (SINGLE, "tse"), (ONLINE, "causal")], ids=str)
def test_few_samples_and_strided_inputs_give_finite_gradients_or_are_refused(
    make_network: Make, samples: int, num_steps: int, rule: GradientRule, norm: str
) -> None:
    x = inputs(samples, 5, 5, 2).permute(0, 3, 1, 2)
    assert not x.is_contiguous()
    network = make_network(3, num_steps=num_steps, normalization=norm)
    if samples == 1 and (num_steps == 1 or norm != "pooled"):  # layer3 is dense: it sees one value per channel
        with pytest.raises(LavatubeError, match=r"layer3.*at least 2 samples"):
            gradients(network, x, rule)
        return
    for name, gradient in gradients(network, x, rule).items():
        assert torch.isfinite(gradient).all(), name
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())


def test_the_straight_through_value_is_the_rate_and_its_slope_the_eligibility() -> None:
    current = inputs(3, 4).requires_grad_()
    rate, eligibility = inputs(3, 4) / 2, inputs(3, 4) + 1
    out = RateStraightThrough.apply(current, rate, eligibility)
    assert torch.equal(out, rate)
    (gradient,) = torch.autograd.grad((out * 3).sum(), current)
    assert torch.equal(gradient, 3 * eligibility)


@pytest.mark.parametrize("rule", [SINGLE, ONLINE])
def test_pooled_statistics_step_by_step_are_refused(make_network: Make, rule: GradientRule) -> None:
    with pytest.raises(LavatubeError, match=r"pooled needs all timesteps at once.*tse"):
        rule.attach(make_network(2))


RESIDUAL = [
    {"kind": "resnet", "depth": 18, "width": 2},
    {"kind": "sew_resnet", "depth": 18, "width": 2},
    {"kind": "preact_resnet", "depth": 18, "width": 2},
    {"kind": "vgg", "depth": 11, "width": 4},
]


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["pooled", *STEP_BY_STEP])
@pytest.mark.parametrize("network", RESIDUAL, ids=lambda value: value["kind"])
def test_values_in_rate_mode_are_those_of_the_spiking_network_in_every_architecture(
    make_recipe: Callable[..., Recipe], network: dict[str, Any], norm: Any
) -> None:
    side = 32 if network["kind"] == "vgg" else 16
    x = 3 * inputs(3, 3, side, side)
    recipe = make_recipe(num_steps=3, network=network, normalization=norm, objective=["cross_entropy"])

    def logits(rule: GradientRule) -> torch.Tensor:
        built = build_network(recipe, (3, side, side), 10).double()
        rule.attach(built)
        seen: list[torch.Tensor] = []
        rule.gradients(built, x, lambda outputs: (seen.append(outputs.logits), outputs.logits.square().mean())[1])
        return seen[0]

    wanted = logits(BPTT)
    torch.testing.assert_close(logits(MULTI), wanted, rtol=0, atol=1e-11)
    if norm == "pooled":
        return
    if network["kind"] == "preact_resnet" and norm not in (None, "running"):
        with pytest.raises(LavatubeError, match="no running average in single-step form"):
            logits(SINGLE)
        return
    torch.testing.assert_close(logits(SINGLE), wanted, rtol=0, atol=1e-11)
