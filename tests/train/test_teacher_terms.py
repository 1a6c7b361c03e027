"""KDSNN, LaSNN and BKDSNN: each loss by its own definition, its invariances, and what it pairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lavatube.errors import LavatubeError
from lavatube.train.networks.build import build_network
from lavatube.train.networks.network import SpikingNetwork
from lavatube.train.objectives.bkdsnn import Bkdsnn, Restore, weighted_cross_entropy
from lavatube.train.objectives.feature_pairs import Aligned, FeaturePair, feature_pairs
from lavatube.train.objectives.kdsnn import Kdsnn
from lavatube.train.objectives.lasnn import Lasnn, attention
from lavatube.train.objectives.soft_targets import divergence
from lavatube.train.recipe import Recipe
from lavatube.train.seq import Lesson, Outputs
from lavatube.train.teachers.teacher import PlainTeacher

LABELS = torch.tensor([0, 2])


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def outputs(own: torch.Tensor, taught: torch.Tensor) -> Outputs:
    """A batch whose one stage is `own` and whose teacher's one feature is `taught`."""
    return Outputs(draw(2, 3), {"stage": own}, lesson=Lesson(draw(2, 3, seed=1), {"feature": taught}))


def pair(own: tuple[int, ...], taught: tuple[int, ...]) -> FeaturePair:
    return FeaturePair("stage", "feature", own, taught)


@pytest.fixture
def network(make_recipe: Callable[..., Recipe]) -> SpikingNetwork:
    """Stages layer1 [4, 8, 8] and layer2 [6, 3, 3]."""
    return build_network(make_recipe(objective=["cross_entropy"]), (1, 8, 8), 10)


@pytest.fixture
def teacher() -> PlainTeacher:
    """Features a [5, 8, 8], b [6, 3, 3], relu of the same size, and flat and dense ones."""
    layers = {
        "a": nn.Conv2d(1, 5, 3, padding=1),
        "b": nn.Conv2d(5, 6, 3, stride=2),
        "relu": nn.ReLU(),
        "flat": nn.Flatten(),
        "dense": nn.Linear(54, 10),
    }
    module = nn.Sequential()
    for name, layer in layers.items():
        module.add_module(name, layer)
    return PlainTeacher(module, (1, 8, 8), 10, "teacher")


# soft targets


def test_the_divergence_is_zero_just_where_logits_are_equal_up_to_a_constant() -> None:
    z = draw(5, 4)
    assert float(divergence(z + 3, z, 2.0)) == pytest.approx(0, abs=1e-12)
    assert float(divergence(z, 2 * z, 2.0)) > 1e-3


def test_the_divergence_is_its_definition() -> None:
    own, taught = draw(5, 4), draw(5, 4, seed=1)
    p, q = F.softmax(taught / 2, -1), F.softmax(own / 2, -1)
    expected = 4 * (p * (p.log() - q.log())).sum(-1).mean()
    assert float(divergence(own, taught, 2.0)) == pytest.approx(float(expected))


# which stage learns which feature


def test_by_default_the_last_stage_of_a_size_learns_the_last_feature_of_it(
    network: SpikingNetwork, teacher: PlainTeacher
) -> None:
    pairs = feature_pairs(network, teacher, {}, "test")
    assert [(p.stage, p.feature, p.own, p.taught) for p in pairs] == [
        ("layer1", "a", (4, 8, 8), (5, 8, 8)),
        ("layer2", "relu", (6, 3, 3), (6, 3, 3)),
    ]
    lesson = teacher(torch.zeros(1, 2, 1, 8, 8))
    assert set(lesson.features) == {"a", "relu"}


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"layer9": "a"}, "no such stage, expected one of: layer1, layer2, got layer9"),
        ({"layer1": "z"}, "the teacher has no such feature, expected one of: a, b, relu"),
        ({"layer1": "b"}, r"a feature of another size.*layer1 \(4, 8, 8\), b \(6, 3, 3\)"),
        ({"layer1": "dense"}, "a feature of another size"),
    ],
)
def test_a_pair_that_does_not_fit_is_refused(
    network: SpikingNetwork, teacher: PlainTeacher, asked: dict[str, str], words: str
) -> None:
    with pytest.raises(LavatubeError, match=words):
        feature_pairs(network, teacher, asked, "test")


def test_no_pair_at_all_is_refused_with_what_there_is(network: SpikingNetwork) -> None:
    flat = PlainTeacher(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), (1, 8, 8), 10, "teacher")
    with pytest.raises(LavatubeError, match=r"no pair of a stage.*layer2 \(6, 3, 3\).*1 \(10,\)"):
        feature_pairs(network, flat, {}, "test")


def test_statistics_of_the_network_stay_as_they_are(network: SpikingNetwork, teacher: PlainTeacher) -> None:
    before = {name: value.clone() for name, value in network.train().state_dict().items()}
    feature_pairs(network, teacher, {}, "test")
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


# KDSNN


def test_kdsnn_adds_the_squares_of_a_sample_and_averages_over_samples() -> None:
    own, taught = draw(2, 3, 4, 4), draw(2, 3, 4, 4, seed=1)
    term = Kdsnn(logit_weight=0, feature_weight=0.5)
    loss = term.loss(outputs(own, taught), LABELS, nn.ModuleDict({"0": Aligned(pair((3, 4, 4), (3, 4, 4)))}))
    assert float(loss) == pytest.approx(0.5 * float(((own - taught) ** 2).sum()) / 2)


def test_kdsnn_aligns_where_widths_differ_and_only_there(network: SpikingNetwork, teacher: PlainTeacher) -> None:
    heads = Kdsnn(features={"layer1": "a", "layer2": "b"}).heads(network, 10, teacher)
    shapes = [[tuple(p.shape) for p in head.parameters()] for head in heads.values()]
    assert shapes == [[(5, 4, 1, 1), (5,), (5,)], []]
    last = Kdsnn().heads(network, 10, teacher)
    assert [head.pair.feature for head in last.values()] == ["relu"]  # type: ignore[union-attr]


def test_kdsnn_of_equal_logits_and_no_features_is_zero() -> None:
    z = draw(2, 3)
    batch = Outputs(z, lesson=Lesson(z))
    assert float(Kdsnn().loss(batch, LABELS, nn.ModuleDict())) == pytest.approx(0, abs=1e-12)


# LaSNN


def test_attention_is_blind_to_the_order_of_channels_their_number_and_a_factor() -> None:
    maps = draw(2, 6, 4, 5)
    q = attention(maps)
    assert q.shape == (2, 20)
    torch.testing.assert_close(attention(maps[:, torch.randperm(6)]), q)
    torch.testing.assert_close(attention(7 * maps), q)
    torch.testing.assert_close(attention(torch.cat([maps, maps], 1)), q)
    assert not torch.allclose(attention(maps.flip(3)), q)
    for factor in (1e-25, 1e25):  # whose squares float32 does not hold
        torch.testing.assert_close(attention(maps.float() * factor), q.float())


def test_lasnn_is_zero_for_equal_attention_and_its_definition_else(
    network: SpikingNetwork, teacher: PlainTeacher
) -> None:
    heads = Lasnn(features={"layer1": "a"}).heads(network, 10, teacher)
    assert list(heads.parameters()) == []
    own, taught = draw(2, 4, 8, 8), draw(2, 5, 8, 8, seed=1)

    def loss(own: torch.Tensor, taught: torch.Tensor) -> float:
        lesson = Lesson(draw(2, 3), {"a": taught})
        return float(Lasnn(weight=2.0).loss(Outputs(draw(2, 3), {"layer1": own}, lesson=lesson), LABELS, heads))

    assert loss(own, 3 * own) == pytest.approx(0, abs=1e-12)
    energy = [(value**2).sum(1).flatten(1) for value in (own, taught)]
    unit = [e / e.norm(dim=1, keepdim=True) for e in energy]
    assert loss(own, taught) == pytest.approx(2 * float((unit[0] - unit[1]).norm(dim=1).mean()))


def test_a_silent_stage_gives_no_nan() -> None:
    own = torch.zeros(2, 3, 4, 4, requires_grad=True)
    distance = torch.linalg.vector_norm(attention(own) - attention(own.detach()), dim=1).mean()
    (gradient,) = torch.autograd.grad(distance, own)
    assert torch.isfinite(gradient).all()


# BKDSNN


def test_without_blur_and_with_r_the_identity_bkdsnn_is_the_squared_difference() -> None:
    own, taught = draw(2, 3, 4, 4), draw(2, 3, 4, 4, seed=1)
    restore = Restore(pair((3, 4, 4), (3, 4, 4)), blur=0.0)
    restore.restore = nn.Sequential()
    heads = nn.ModuleDict({"restore": restore})
    loss = Bkdsnn(feature_weight=1, logit_weight=0).loss(outputs(own, taught), LABELS, heads)
    assert float(loss) == pytest.approx(float(((own - taught) ** 2).sum()) / 2)
    scaled = Bkdsnn(feature_weight=1, logit_weight=0, rescale=True).loss(outputs(own, taught), LABELS, heads)
    assert float(scaled) == pytest.approx(float(((own - taught * own.max() / taught.max()) ** 2).sum()) / 2)
    below = -taught.abs()  # has no positive value to rescale to
    scaled = Bkdsnn(feature_weight=1, logit_weight=0, rescale=True).loss(outputs(own, below), LABELS, heads)
    assert float(scaled) == pytest.approx(float(((own - below) ** 2).sum()) / 2)


@pytest.mark.parametrize("kind", ["kdsnn", "bkdsnn", "self_distillation", "self_ensemble"])
@pytest.mark.parametrize("temperature", [1e-300, 0.0, 1e6])
def test_a_temperature_that_float32_cannot_soften_by_is_refused(
    make_recipe: Callable[..., Recipe], kind: str, temperature: float
) -> None:
    term = {"kind": kind, "temperature": temperature}
    with pytest.raises(LavatubeError, match=r"temperature.*(at least|at most|greater|less).*1"):
        make_recipe(objective=["cross_entropy", term], gradient="bptt")


def test_whole_channels_are_blurred_anew_each_time_and_none_in_evaluation() -> None:
    restore, maps = Restore(pair((64, 2, 2), (64, 2, 2)), blur=0.25), torch.ones(50, 64, 2, 2)
    first, second = restore.mask(maps), restore.mask(maps)
    assert first.shape == (50, 64, 1, 1)
    assert set(first.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(first, second)
    assert float(first.mean()) == pytest.approx(0.75, abs=0.04)  # 5 standard deviations
    assert bool(restore.eval().mask(maps).all())


def test_the_loss_is_of_what_the_blur_left(monkeypatch: pytest.MonkeyPatch) -> None:
    own, taught = draw(2, 3, 4, 4), draw(2, 3, 4, 4, seed=1)
    restore = Restore(pair((3, 4, 4), (3, 4, 4)), blur=0.5)
    restore.restore, heads = nn.Sequential(), nn.ModuleDict({"restore": restore})
    mask = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]], dtype=own.dtype)[..., None, None]
    monkeypatch.setattr(restore, "mask", lambda like: mask)
    loss = Bkdsnn(feature_weight=1, logit_weight=0).loss(outputs(own, taught), LABELS, heads)
    assert float(loss) == pytest.approx(float(((mask * own - taught) ** 2).sum()) / 2)


def test_the_blur_goes_on_after_a_resume_where_it_stopped() -> None:
    maps, one, other = torch.ones(4, 8, 2, 2), *(Restore(pair((8, 2, 2), (8, 2, 2)), blur=0.5) for _ in range(2))
    one.mask(maps)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.mask(maps), other.mask(maps))


def test_the_weighted_logits_are_their_definition_and_pass_no_gradient_through_the_weight() -> None:
    own, taught = draw(2, 3).requires_grad_(), draw(2, 3, seed=1)
    loss = weighted_cross_entropy(own, taught, LABELS, 2.0)
    weight = 1 - torch.exp(
        -F.cross_entropy(own, LABELS, reduction="none") / F.cross_entropy(taught, LABELS, reduction="none")
    )
    soft = -(F.softmax(taught / 2, -1) * F.log_softmax(own / 2, -1)).sum(-1)
    torch.testing.assert_close(loss, 4 * (weight.detach() * soft).mean())
    (gradient,) = torch.autograd.grad(loss, own)
    expected = 4 * weight.detach()[:, None] * (F.softmax(own / 2, -1) - F.softmax(taught / 2, -1)) / 2 / 2
    torch.testing.assert_close(gradient, expected.detach())
    (at_equal,) = torch.autograd.grad(weighted_cross_entropy(own, own.detach() + 3, LABELS, 2.0), own)
    torch.testing.assert_close(at_equal, torch.zeros_like(at_equal))  # nothing to learn, up to a constant


def test_a_teacher_without_any_error_gives_no_nan() -> None:
    sure = torch.tensor([[1e4, 0, 0], [0, 0, 1e4]])
    for own in (sure, draw(2, 3).float()):
        assert torch.isfinite(weighted_cross_entropy(own, sure, LABELS, 2.0))


# all of them


@pytest.mark.parametrize(
    "objective", [["cross_entropy", "kdsnn"], ["lasnn", "cross_entropy"], ["cross_entropy", "bkdsnn"]]
)
def test_a_recipe_whose_term_has_no_teacher_is_refused(make_recipe: Callable[..., Recipe], objective: Any) -> None:
    kind = next(name for name in objective if name != "cross_entropy")
    with pytest.raises(
        LavatubeError, match=f"bad value of teacher, expected a network for {kind} to learn from, got None"
    ):
        make_recipe(objective=objective)


@pytest.mark.parametrize("term", [Kdsnn(feature_weight=0), Bkdsnn(feature_weight=0)], ids=lambda term: term.kind)
def test_logits_alone_need_no_maps(network: SpikingNetwork, teacher: PlainTeacher, term: Kdsnn | Bkdsnn) -> None:
    network.stage_shapes = lambda: {"hidden": (10,)}  # type: ignore[method-assign]
    heads = term.heads(network, 10, teacher)
    assert not list(heads.state_dict())
    assert torch.isfinite(term.loss(outputs(draw(2, 3), draw(2, 3)), LABELS, heads))


def test_maps_are_asked_for_by_the_terms_that_need_them(network: SpikingNetwork, teacher: PlainTeacher) -> None:
    network.stage_shapes = lambda: {"hidden": (10,)}  # type: ignore[method-assign]
    for term, words in ((Lasnn, "attention needs maps"), (Bkdsnn, "channels are blurred in maps")):
        with pytest.raises(LavatubeError, match=words):
            term(features={"hidden": "dense"}).heads(network, 10, teacher)
