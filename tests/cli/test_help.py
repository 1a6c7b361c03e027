"""--help names every choice that there is, with its default."""

from __future__ import annotations

import pytest
import typer

from lavatube.cli.app import app
from lavatube.contract_presets import PRESETS
from lavatube.deploy.mapping.limits import list_limits
from lavatube.sim.price_table import DEFAULT_PRICES, list_prices
from lavatube.sim.run import BACKENDS


def help_of(command, option):
    (found,) = (each for each in typer.main.get_command(app).commands[command].params if each.name == option)
    return found.help


@pytest.mark.parametrize(
    ("command", "option", "words"),
    [
        ("parity", "against", [*(set(BACKENDS) - {"reference"}), "float", "default fast,lava"]),
        ("energy", "prices", [*list_prices(), f"Default: {', '.join(DEFAULT_PRICES[:-1])} and {DEFAULT_PRICES[-1]}"]),
        ("energy", "target", list_limits()),
        ("energy", "out", ["counts.json", "energy.json", "counts_per_step.json", "measured.json"]),
        ("map", "target", list_limits()),
        ("run", "contract", list(PRESETS)),
    ],
)
def test_the_help_of_an_option_names_its_choices(command, option, words):
    text = help_of(command, option)
    assert [word for word in words if word not in text] == []
