"""Neurons: every gradient rule uses the same derivatives, and they are those of the definition."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
import torch

from lavatube.errors import LavatubeError
from lavatube.train.gradients.rate import record
from lavatube.train.networks.network import SpikingNetwork
from lavatube.train.neuron import NeuronSpec
from lavatube.train.neuron_run import BLOCK, at_rest, run_through_time, step, trace
from lavatube.train.passes.rate import RatePass
from lavatube.train.passes.step_by_step import OnlineStep, ReplayRates, SequenceState
from lavatube.train.recipe import Recipe
from lavatube.train.seq import Outputs
from lavatube.train.surrogate_table import SURROGATES
from lavatube.train.surrogates import Surrogate

KINDS = [
    NeuronSpec(reset=reset, output=output, refractory=rest, detach_reset=detach, decay=0.5)
    for reset, output, rest, detach in product(
        ("zero", "subtract"), ("binary", "signed", "graded"), (0, 2), (True, False)
    )
    if (reset, output) != ("subtract", "graded")
]
GATED = {"reset": "subtract", "output": "signed", "memory_gate": True, "v_threshold_low": 0.2}
KINDS += [  # the settings that only some outputs have
    NeuronSpec(decay=0.5, detach_reset=detach, **settings)
    for settings, detach in product(
        (
            {"reset": "subtract", "fire_at": 0.5, "refractory": 1},
            {"output": "signed", "v_threshold_low": 0.4},
            GATED,
            GATED | {"refractory": 1, "reset": "zero"},
            {"output": "graded", "graded_max": 1.5},
        ),
        (True, False),
    )
]


def name_of(spec: NeuronSpec) -> str:
    return ",".join(f"{key}={value}" for key, value in spec.model_dump(exclude_defaults=True, exclude={"dv"}).items())


NUMBERS = list(product((0.0, 0.2, 0.5, 1.0), (0.7, 1.0), (0.0, 0.3)))


def by_definition(current: torch.Tensor, spec: NeuronSpec) -> torch.Tensor:
    """Operation by operation, by autograd. current: [T, ...]."""
    state, spikes = at_rest(spec, current[0]), []
    for step_current in current:
        s, state, _ = step(spec, state, step_current, differentiable=True)
        spikes.append(s)
    return torch.stack(spikes)


def currents(num_steps: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(num_steps)
    return 1.5 * torch.randn(num_steps, 3, 8, dtype=torch.float64, generator=generator)


def specs(kind: NeuronSpec) -> list[NeuronSpec]:
    return [
        NeuronSpec.model_validate(
            {**kind.model_dump(), "dv": -1, "decay": decay, "v_threshold": threshold, "v_initial": initial}
        )
        for decay, threshold, initial in NUMBERS
    ]


@pytest.mark.parametrize("num_steps", [1, 2, 6])
@pytest.mark.parametrize("kind", KINDS, ids=name_of)
def test_the_eligibility_is_the_gradient_of_the_rate_by_a_constant_current(kind: NeuronSpec, num_steps: int) -> None:
    for spec in specs(kind):
        shift = torch.zeros(3, 8, dtype=torch.float64, requires_grad=True)
        spikes = by_definition(currents(num_steps) + shift, spec)
        (oracle,) = torch.autograd.grad(spikes.mean(0).sum(), shift)
        traced, rate, eligibility = trace(currents(num_steps), spec, num_steps)
        assert torch.equal(traced, spikes)
        torch.testing.assert_close(rate, spikes.mean(0).detach(), rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(eligibility, oracle, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS, ids=name_of)
def test_the_written_backward_through_time_is_autograd_of_the_definition(kind: NeuronSpec) -> None:
    for spec in specs(kind):
        current = currents(6).requires_grad_()
        slow, fast = by_definition(current, spec), run_through_time(current, spec)
        assert torch.equal(slow, fast)
        g = torch.linspace(-1, 1, slow.numel(), dtype=torch.float64).reshape(slow.shape)
        (wanted,), (got,) = (torch.autograd.grad(spikes, current, g) for spikes in (slow, fast))
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-14)
        with torch.no_grad():
            assert torch.equal(run_through_time(current, spec), slow)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.detach_reset], ids=name_of)
def test_every_drive_of_a_network_gives_the_same_spikes(
    make_network: Callable[..., SpikingNetwork], kind: NeuronSpec
) -> None:
    """All timesteps at once or one at a time; by autograd, by hand, with eligibilities, or in evaluation."""
    settings = kind.model_dump(exclude={"dv", "decay_asked"}) | {"v_threshold": 0.8, "v_initial": 0.3}
    x = 2 * torch.rand(5, 4, 2, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 0.5

    def rates(run: Callable[[SpikingNetwork], list[Outputs]]) -> list[torch.Tensor]:
        outputs = run(make_network(2, num_steps=5, normalization=None, **settings))
        return [torch.stack([each.rates[name] for each in outputs]).mean(0) for name in ("layer1", "layer2")]

    def by_steps(network: SpikingNetwork) -> list[Outputs]:
        state = SequenceState()
        return [network.body_outputs(step.unsqueeze(0), OnlineStep(state)) for step in x]

    def in_evaluation(network: SpikingNetwork) -> list[Outputs]:
        with torch.no_grad():
            return [network.eval()(x)]

    wanted = rates(lambda network: [network(x)])
    assert all(0 < (rate != 0).double().mean() for rate in wanted)
    drives: list[Callable[[SpikingNetwork], list[Outputs]]] = [
        by_steps,
        in_evaluation,
        lambda network: [network(x, RatePass(5))],
        lambda network: [network.body_outputs(x, ReplayRates(record(network, x), 5))],
    ]
    for drive in drives:
        for found, rate in zip(rates(drive), wanted, strict=True):
            torch.testing.assert_close(found, rate, rtol=0, atol=1e-12)


def test_neurons_are_independent_of_the_blocks_they_are_stepped_in() -> None:
    spec, count = NeuronSpec(decay=0.5), BLOCK + 37
    current = torch.randn(3, count, generator=torch.Generator().manual_seed(0))
    spikes, rate, eligibility = trace(current, spec, 3)
    ends = slice(BLOCK - 5, None)
    for whole, part in zip(
        (spikes[:, ends], rate[ends], eligibility[ends]), trace(current[:, ends], spec, 3), strict=True
    ):
        assert torch.equal(whole, part)


def test_neurons_do_not_depend_on_the_order_of_their_currents_in_memory_and_keep_it() -> None:
    current = currents(3).reshape(3, 2, -1, 1, 1).repeat(1, 1, 1, 3, 2) + torch.linspace(0, 1, 6).reshape(3, 2)
    last = current.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    assert last.stride() != current.stride()
    spec = NeuronSpec(decay=0.5)
    for plain, other in zip(trace(current, spec, 3), trace(last, spec, 3), strict=True):
        torch.testing.assert_close(plain, other, rtol=1e-12, atol=0)
        assert other.stride()[-3:] == last.stride()[-3:]
    with_graph = last.clone().requires_grad_()
    for found in (run_through_time(last, spec), run_through_time(with_graph, spec)):
        assert torch.equal(found, run_through_time(current, spec))
        assert found.stride() == last.stride()


def test_a_voltage_at_the_threshold_does_not_spike_and_a_refractory_neuron_rests() -> None:
    drive = torch.tensor([1.0, 0.5, 9.0, 9.0, 9.0, 9.0]).reshape(6, 1)
    spikes = run_through_time(drive, NeuronSpec(decay=0.0, refractory=2))
    assert spikes.flatten().tolist() == [0, 0, 1, 0, 0, 1]


def test_reset_by_subtraction_keeps_the_rest_and_signed_neurons_fire_both_ways() -> None:
    soft = run_through_time(torch.tensor([[2.5], [0.0], [0.0]]), NeuronSpec(decay=1.0, reset="subtract"))
    assert soft.flatten().tolist() == [1, 1, 0]
    signed = run_through_time(torch.tensor([[-1.5], [0.0], [1.5]]), NeuronSpec(decay=1.0, output="signed"))
    assert signed.flatten().tolist() == [-1, 0, 1]
    graded = run_through_time(torch.tensor([[0.5], [0.75], [0.5]]), NeuronSpec(decay=1.0, output="graded"))
    assert graded.flatten().tolist() == [0, 1.25, 0]


@pytest.mark.parametrize("row", SURROGATES, ids=lambda row: row.__name__)
def test_a_surrogate_is_symmetric_peaks_at_the_threshold_and_has_its_stated_integral(row: type[Surrogate]) -> None:
    surrogate = row()
    x = torch.linspace(-2000, 2000, 4_000_001, dtype=torch.float64)
    y = surrogate.derivative(x)
    assert float(torch.trapezoid(y, x)) == pytest.approx(surrogate.integral, rel=1e-3)
    assert float(y.max()) == pytest.approx(float(surrogate.derivative(torch.zeros(1))))
    torch.testing.assert_close(y, y.flip(0), rtol=1e-9, atol=1e-12)
    assert surrogate.source


def test_a_graded_neuron_with_reset_by_subtraction_is_refused(make_recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(LavatubeError, match="reset zero with a graded output"):
        make_recipe(neuron={"decay": 0.5, "output": "graded", "reset": "subtract"})
