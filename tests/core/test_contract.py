"""The execution contract: a closed set of choices, written and read without loss, nothing defaulted."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest

from lavatube.contract import LOIHI, ExecutionContract
from lavatube.contract_presets import _CHOICES, PRESETS, parse_contract, preset
from lavatube.errors import LavatubeError

DOCS = Path(__file__).parents[2] / "docs" / "contract.md"


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_comes_back_from_json_as_it_was(name):
    text = json.dumps(preset(name).to_json())
    assert ExecutionContract.read(json.loads(text), where="here") == preset(name)


def test_every_field_of_every_preset_is_chosen_in_the_table():
    assert set(_CHOICES) == {field.name for field in fields(ExecutionContract)} - {"version", "name", "platform"}
    known = set(PRESETS)
    for _, others in _CHOICES.values():
        for names in others:
            assert set(names if isinstance(names, tuple) else [names]) <= known


def test_no_two_presets_are_the_same_contract():
    shown = [{**contract.to_json(), "name": "", "platform": ""} for contract in PRESETS.values()]
    assert all(a != b for i, a in enumerate(shown) for b in shown[:i])


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"comparator": "=="}, "comparator is not known, expected '>', '>='"),
        ({"dt": 1}, "dt is not known, expected float"),
        ({"dt": float("nan")}, "dt must be positive"),
        ({"reset_lag": True}, "reset_lag is not known"),
        ({"nodes": ["LIF", "Izhikevich"]}, "nodes is not known"),
        ({"version": 1}, "another version, expected version 2, got version 1; make the file again"),
        ({"feedback_delay": 0}, "known before the step"),
        ({"tau_unit": "steps"}, "tau in steps means dt = 1"),
        ({"mood": "good"}, "missing or unknown fields"),
    ],
)
def test_an_unknown_field_or_value_is_refused_not_defaulted(change, error):
    with pytest.raises(LavatubeError, match=error):
        ExecutionContract.read({**LOIHI.to_json(), **change}, where="file.nir")


def test_a_missing_field_is_refused_not_defaulted():
    for name in LOIHI.to_json():
        value = LOIHI.to_json()
        del value[name]
        with pytest.raises(LavatubeError, match=f"missing or unknown fields, got {name}"):
            ExecutionContract.read(value, where="file.nir")


def test_integers_know_loihis_contract_only():
    assert ExecutionContract.from_json(LOIHI.with_overrides(dt=1e-3).to_json(), where="").dt == 1e-3
    for name in set(PRESETS) - {"loihi"}:
        with pytest.raises(LavatubeError, match="is not supported, expected"):
            ExecutionContract.from_json(preset(name).to_json(), where="")


def test_a_contract_is_said_in_one_line_of_text():
    contract = parse_contract("norse, dt=1e-4, comparator=>=, reset_lag=1")
    assert (contract.dt, contract.comparator, contract.reset_lag) == (1e-4, ">=", 1)
    assert contract.with_overrides(dt=1e-3, comparator=">", reset_lag=0) == preset("norse")
    for text, error in (
        ("brian", "unknown contract, expected loihi, lava, norse"),
        ("norse,comparator=<", "contract field comparator, expected >, >=, got '<'"),
        ("norse,colour=red", "unknown contract field"),
        ("norse,name=mine", "unknown contract field"),
        ("norse,dt", "NAME,FIELD=VALUE"),
        ("norse,comparator=>, comparator=>=", "a contract field given twice, expected once, got comparator"),
        ("norse,dt=fast", "expected a number"),
    ):
        with pytest.raises(LavatubeError, match=error):
            parse_contract(text)


def test_a_dt_gives_time_constants_in_steps_a_unit():
    assert preset("sinabs").tau_unit == "steps"
    assert preset("sinabs").with_overrides(dt=1e-4).tau_unit == "s"


def test_the_page_has_every_field_value_and_preset():
    text = DOCS.read_text(encoding="utf-8")
    for field in fields(ExecutionContract):
        assert f"`{field.name}`" in text, field.name
    for name, contract in PRESETS.items():
        unlike = ", ".join(
            f"`{field}` {getattr(contract, field):g}" if field in ("dt", "if_decay")
            else f"`{field}` {getattr(contract, field)}"
            for field, (common, _) in _CHOICES.items()
            if field not in ("nodes", "requires") and getattr(contract, field) != common
        )  # fmt: skip
        assert f"| `{name}` | {unlike or '-'} |" in text, f"| `{name}` | {unlike or '-'} |"
