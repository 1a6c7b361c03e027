"""Recipes: what they resolve to, and what each mistake says."""

from __future__ import annotations

import math
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from lavatube.cli.app import invoke
from lavatube.errors import LavatubeError
from lavatube.train.optimization import learning_rate
from lavatube.train.recipe import list_recipes, load_recipe, parse_recipe


def shipped() -> dict[str, Any]:
    return load_recipe("digits").model_dump(mode="json")


def test_the_decay_is_snapped_to_the_chips_register() -> None:
    value = shipped()
    value["neuron"] = {"decay": 0.2}
    neuron = parse_recipe(value, where="test").neuron
    assert neuron.dv == 3277
    assert neuron.decay == 1 - 3277 / 4096
    assert neuron.decay_asked == 0.2
    again = parse_recipe(value | {"neuron": neuron.model_dump(mode="json")}, where="test").neuron
    assert again == neuron
    value["neuron"] = {"decay": 0.5}
    assert parse_recipe(value, where="test").neuron.decay_asked is None


@pytest.mark.parametrize("name", list_recipes())
def test_a_resolved_recipe_reads_back_as_itself(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.neuron.dv == round(4096 * (1 - recipe.neuron.decay))
    assert parse_recipe(recipe.model_dump(mode="json"), where="test") == recipe


def keys_of(text: str) -> dict[str, str]:
    """Key -> its line."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    return {key: line for line in lines for key in re.findall(r"([a-z_0-9]+):", line.partition("#")[0])}


@pytest.mark.parametrize("name", list_recipes())
def test_every_key_of_a_shipped_recipe_is_explained_there_or_in_digits(name: str) -> None:
    folder = files("lavatube.train") / "recipes"
    text = {each: (folder / f"{each}.yaml").read_text(encoding="utf-8") for each in (name, "digits")}
    in_digits = {
        key for key, line in keys_of(text["digits"]).items() if "#" in line or "{" in line or line.endswith(":")
    }
    for key, line in keys_of(text[name]).items():
        assert "#" in line or key in in_digits, line


@pytest.mark.parametrize(
    ("keys", "value", "parts"),
    [
        (("optimizer", "speed"), 1, ("unknown key optimizer.speed", "lr")),
        (("nme",), 1, ("unknown key nme", "num_steps")),
        (("num_steps",), 0, ("num_steps", "greater than or equal to 1", "got 0")),
        (("num_steps",), "eight", ("num_steps", "integer", "got 'eight'")),
        (("num_steps",), True, ("num_steps", "integer", "got True")),
        (("optimizer", "lr"), float("nan"), ("optimizer.lr", "finite", "got nan")),
        (("optimizer",), 3, ("optimizer", "got 3")),
        (("neuron", "dv"), 7, ("neuron.dv", "2048", "got 7")),
        (("neuron", "reset"), "soft", ("neuron.reset", "'zero' or 'subtract'", "soft")),
        (
            ("network", "layers"),
            [{"dense": {"units": 4}}, {"conv2d": {"channels": 1, "kernel": 1}}],
            ("dense layer last",),
        ),
        (("network", "layers"), [{"pool": {}}], ("network.layers.0", "conv2d, dense", "pool")),
        (("network",), {"kind": "vgg12"}, ("network", "chain, vgg, resnet", "vgg12")),
        (("network",), {"kind": "vgg", "depth": 12}, ("network.depth", "11", "12")),
        (("encoder",), "poisson", ("encoder", "direct, binary, rate, latency, delta", "poisson")),
        (("encoder",), {"kind": "rate", "seed": 1}, ("unknown key encoder.seed", "kind")),
        (("encoder",), {"kind": "delta", "threshold": 0}, ("encoder.threshold", "greater than or equal to 1", "got 0")),
        (("gradient",), "backprop", ("gradient", "bptt, rate, online", "backprop")),
        (("gradient",), {"kind": "rate", "from": 1}, ("unknown key gradient.from", "form, grad_scale")),
        (("normalization",), {"kind": "tse", "momentum": 2}, ("normalization.momentum", "less than or equal to 1")),
        (("neuron", "surrogate"), {"kind": "atan", "slope": -1}, ("neuron.surrogate.slope", "greater than 0")),
        (("objective",), ["bias_limit"], ("objective", "cross_entropy among the terms")),
        (("objective",), ["cross_entropy", "cross_entropy"], ("objective", "not cross_entropy twice")),
        (("objective",), ["cross_entropy", {"kind": "kd"}], ("objective.1", "self_distillation", "kd")),
        (("network", "layers"), [{"conv2d": {"channels": 2}}], ("missing key network.layers.0.conv2d.kernel",)),
        (("name",), "../up", ("name", "../up")),
    ],
)
def test_a_mistake_is_named_with_file_key_expected_and_got(
    tmp_path: Path, keys: tuple[str, ...], value: Any, parts: tuple[str, ...]
) -> None:
    recipe = shipped()
    target = recipe
    for key in keys[:-1]:
        target = target[key]
    target[keys[-1]] = value
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump(recipe))
    with pytest.raises(LavatubeError) as error:
        load_recipe(path)
    message = str(error.value)
    assert "\n" not in message
    for part in (str(path), *parts):
        assert part in message


def test_a_number_in_exponent_form_without_a_point_is_a_number() -> None:
    value = shipped()
    value["optimizer"]["lr"] = "1e-3"
    assert parse_recipe(value, where="test").optimizer.lr == 0.001


@pytest.mark.parametrize("text", ["a: [", "- 1", "", "!!python/object/apply:os.getcwd []"])
def test_a_file_that_is_no_recipe_is_one_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(LavatubeError, match="bad\\.yaml"):
        load_recipe(path)


def test_an_unknown_recipe_lists_the_shipped_ones() -> None:
    with pytest.raises(LavatubeError, match="digits"):
        load_recipe("digit")


def test_the_cosine_begins_after_the_warm_up_and_would_end_at_zero() -> None:
    value = shipped()
    value["optimizer"] = {"lr": 2, "epochs": 12, "batch_size": 1, "warmup_epochs": 4}
    settings = parse_recipe(value, where="test").optimizer
    rates = [learning_rate(settings, epoch) for epoch in range(13)]
    assert rates[:5] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0])
    assert rates[4:] == pytest.approx([1 + math.cos(math.pi * k / 8) for k in range(9)])
    assert rates[8] == pytest.approx(1.0)
    assert rates[12] == pytest.approx(0.0)


PUBLISHED = [f"cifar{classes}-resnet{depth}" for classes in (10, 100) for depth in (18, 19)]
PUBLISHED += ["cifar10-dvs-vgg11", "imagenet-sew34"]


@pytest.mark.parametrize("name", ["digits", "mnist", "fashion-mnist", "spoken-digits", "imu", *PUBLISHED])
def test_a_recipe_says_what_it_should_reach_and_who_says_so(name: str) -> None:
    expected = load_recipe(name).expected
    assert expected is not None
    assert expected.test_accuracy > 60
    assert expected.run_here == (name not in PUBLISHED)
    assert "measured" in expected.source or "seeds" in expected.source or name in PUBLISHED


def test_steps_of_the_learning_rate_begin_after_the_warm_up() -> None:
    value = shipped()
    value["optimizer"] = {"lr": 1, "epochs": 20, "batch_size": 1, "schedule": "step", "warmup_epochs": 4}
    value["optimizer"] |= {"step_epochs": 5, "step_factor": 0.1}
    settings = parse_recipe(value, where="test").optimizer
    rates = [learning_rate(settings, epoch) for epoch in range(20)]
    assert rates[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert rates[4:] == pytest.approx([1.0] * 5 + [0.1] * 5 + [0.01] * 5 + [0.001])


@pytest.mark.parametrize(
    "text", ["seed: 0\nseed: 7\n", "optimizer: {lr: 0.1, lr: 5}\n", "[" * 3000, "a: " + "[" * 800 + "]" * 800]
)
def test_keys_twice_and_bottomless_nesting_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(LavatubeError, match=r"not readable as YAML.*(twice|depth|recursion|expected|')"):
        load_recipe(path)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("seed",), 1 << 64),
        (("optimizer", "batch_size"), 10**30),
        (("optimizer", "warmup_epochs"), 10**400),
        (("optimizer", "lr"), 1e39),
        (("neuron", "v_initial"), 1e39),
        (("data", "shift"), 10**30),
        (("num_steps",), 10**30),
    ],
    ids=str,
)
def test_numbers_that_no_machine_holds_are_refused(path: tuple[str, ...], value: Any) -> None:
    recipe = shipped()
    place = recipe
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(LavatubeError, match=path[-1]):
        parse_recipe(recipe, where="test")


def test_a_decay_that_yaml_reads_as_text_is_on_record_too() -> None:
    value = shipped()
    value["neuron"] = {"decay": "9e-1"}
    assert parse_recipe(value, where="test").neuron.decay_asked == 0.9


def test_a_shipped_recipe_is_printed_as_it_is_written_to_be_changed_and_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["train", "digits", "--print"]) == 0
    mine = tmp_path / "mine.yaml"
    mine.write_text(capsys.readouterr().out)
    assert load_recipe(str(mine)) == load_recipe("digits")
    assert "#" in mine.read_text()
    for given, said in (
        ("digit", "no such recipe"),
        ("digits --seed 0", "no --seed"),
        (str(tmp_path), "no such recipe"),
    ):
        assert invoke(["train", *given.split(), "--print"]) == 2
        assert said in capsys.readouterr().err
    mine.write_bytes(b"\xff")
    assert invoke(["train", str(mine), "--print"]) == 2
    assert "UTF-8" in capsys.readouterr().err
