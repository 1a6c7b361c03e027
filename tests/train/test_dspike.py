"""Dspike: the family of slopes, and a sharpness that follows the true loss."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lavatube.train.datasets.dataset import Dataset
from lavatube.train.dspike import TEMPERATURE, Dspike, finite_differences, set_temperature
from lavatube.train.loop import Trainee
from lavatube.train.recipe import Recipe
from lavatube.train.run import train
from lavatube.train.samples import prepare
from lavatube.train.surrogates import Spike

MakeRecipe = Callable[..., Recipe]
TEMPERATURES = st.floats(0.01, 50)


@settings(deadline=None, max_examples=30)
@given(temperature=TEMPERATURES, width=st.floats(0.1, 4))
def test_the_slope_has_integral_1(temperature: float, width: float) -> None:
    x = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000 - 0.5
    slope = Dspike(temperature=temperature, width=width).derivative(2 * width * x)
    assert float(slope.mean()) * 2 * width == pytest.approx(1, abs=1e-4)


@settings(deadline=None, max_examples=30)
@given(temperature=TEMPERATURES)
def test_the_slope_is_that_of_the_papers_family(temperature: float) -> None:
    x = torch.linspace(0.001, 0.999, 101, dtype=torch.float64).requires_grad_()
    a = 1 / (2 * torch.tanh(torch.tensor(temperature / 2, dtype=torch.float64)))
    (slope,) = torch.autograd.grad((a * torch.tanh(temperature * (x - 0.5)) + 0.5).sum(), x)
    torch.testing.assert_close(Dspike(temperature=temperature).derivative(x.detach() - 0.5), slope)


def test_the_peak_grows_with_the_temperature_from_that_of_the_rectangle() -> None:
    peaks = [float(Dspike(temperature=b).derivative(torch.zeros(1))) for b in (0.01, 1, 3, 10)]
    assert peaks == pytest.approx([1.0, 1.08, 1.66, 5.0], abs=0.005)  # methods_zoo, method 1


def test_the_spikes_stay_0_and_1() -> None:
    spikes = Spike.apply(torch.linspace(-1, 1, 101), Dspike(temperature=3.0))
    assert set(spikes.unique().tolist()) == {0.0, 1.0}


def test_finite_differences_of_a_smooth_loss_become_its_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(3, 4, dtype=torch.float64, generator=generator).requires_grad_()
    x = torch.randn(4, 5, dtype=torch.float64, generator=generator)
    directions = torch.randn(6, 3, 4, dtype=torch.float64, generator=generator)

    def loss(shift: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid((w + shift) @ x).square().sum()

    (gradient,) = torch.autograd.grad(loss(torch.zeros(3, 4)), w)
    exact = torch.stack([(gradient * d).sum() for d in directions])
    errors = [
        float((finite_differences(lambda s: float(loss(s).detach()), directions, step) - exact).abs().max())
        for step in (1e-1, 1e-2, 1e-3)
    ]
    assert errors[2] < errors[1] / 50 < errors[0] / 50**2  # of second order


@pytest.fixture
def dspike_recipe(make_recipe: MakeRecipe, tiny_data: Dataset) -> Callable[..., Recipe]:
    def make(**surrogate: float) -> Recipe:
        neuron = {"decay": 0.5, "surrogate": {"kind": "dspike", "directions": 4, **surrogate}}
        optimizer = {"lr": 0.01, "epochs": 2, "batch_size": 48}
        return make_recipe(
            objective=["cross_entropy"], gradient="bptt", num_steps=2, neuron=neuron, optimizer=optimizer
        )

    return make


def temperatures(trainee: Trainee) -> set[float]:
    return {population.spec.surrogate.temperature for population in trainee.network.populations()}  # type: ignore[attr-defined]


@pytest.mark.parametrize("start", [0.3, 1.0, 20.0])
def test_adapting_never_lowers_the_agreement_and_changes_nothing_else(
    dspike_recipe: Callable[..., Recipe], start: float
) -> None:
    recipe = dspike_recipe(temperature=start, change=0.5)
    surrogate, data = recipe.neuron.surrogate, prepare(recipe)
    assert isinstance(surrogate, Dspike)
    trainee = Trainee(recipe, data)
    before = {name: value.clone() for name, value in trainee.state_dict().items()}
    chosen = surrogate.adapted(trainee.probe(data, 0), start)
    assert chosen in {start - 0.5, start, start + 0.5} - {-0.2}
    found = surrogate.agreements(trainee.probe(data, 0), [start, chosen])
    assert found[chosen] >= found[start]
    assert all(torch.equal(value, before[name]) for name, value in trainee.state_dict().items())
    assert temperatures(trainee) == {start}


@pytest.mark.parametrize(("temperature", "chosen"), [(1.0, 1.5), (5.0, 4.5), (3.0, 3.0), (0.3, 0.8), (99.8, 99.3)])
def test_of_three_neighbours_the_one_with_the_best_agreement_is_taken(
    monkeypatch: pytest.MonkeyPatch, temperature: float, chosen: float
) -> None:
    def agreements(self: Dspike, probe: object, temperatures: list[float]) -> dict[float, float]:
        assert all(0 < b <= 100 for b in temperatures)
        return {b: -abs(b - 3) for b in temperatures}

    monkeypatch.setattr(Dspike, "agreements", agreements)
    assert Dspike(change=0.5).adapted(None, temperature) == pytest.approx(chosen)  # type: ignore[arg-type]


def test_every_weight_is_its_own_direction_where_there_are_few(dspike_recipe: Callable[..., Recipe]) -> None:
    surrogate = Dspike(directions=6)
    each = surrogate._directions(torch.zeros(2, 3), torch.Generator())
    assert torch.equal(each.reshape(6, 6), torch.eye(6))
    assert surrogate._directions(torch.zeros(7, 1), torch.Generator()).shape == (6, 7, 1)


def test_the_neurons_take_the_temperature_before_an_epoch_and_a_resume_goes_on_with_it(
    dspike_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    recipe = dspike_recipe(temperature=1.0, change=0.5)
    surrogate, data = recipe.neuron.surrogate, prepare(recipe)
    trainee = Trainee(recipe, data)
    surrogate.before_epoch(trainee.network, lambda: trainee.probe(data, 0))
    kept = float(trainee.network.get_buffer(TEMPERATURE))
    assert temperatures(trainee) == {kept}
    resumed = Trainee(recipe, data)
    resumed.load_state_dict(trainee.state_dict())
    constant = Dspike(temperature=1.0, change=0)
    constant.before_epoch(resumed.network, lambda: resumed.probe(data, 1))
    assert temperatures(resumed) == {kept}

    def stop(epoch: int, *rest: object) -> None:
        if epoch == 1:
            raise KeyboardInterrupt

    whole = train(recipe, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(recipe, out=tmp_path / "cut", progress=stop)
    again = train(recipe, out=tmp_path / "cut")
    assert whole.tensors.keys() == again.tensors.keys()
    for name, value in whole.tensors.items():
        assert (value == again.tensors[name]).all(), name


def test_the_temperature_reaches_every_population(dspike_recipe: Callable[..., Recipe]) -> None:
    trainee = Trainee(dspike_recipe(), prepare(dspike_recipe()))
    set_temperature(trainee.network, 7.0)
    assert temperatures(trainee) == {7.0}
