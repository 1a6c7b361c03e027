"""Level 0 of energy: equal counts and equal prices make equal joules, to the last femtojoule; else exit code 1."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from lavatube.cli.app import invoke
from lavatube.program_file import save_program
from lavatube.sim.counts import count
from lavatube.sim.fast import run_fast
from lavatube.sim.parity import parity_of_traces
from lavatube.sim.parity_tally import energy_parity
from lavatube.sim.price_table import DEFAULT_PRICES, load_prices
from lavatube.sim.reference import run_reference
from lavatube.trace import save_trace


@pytest.fixture
def traces(tmp_path, small_program, random_inputs):
    """A program, the reference's trace of it, the fast engine's, and one with a spike moved to another neuron."""
    program = small_program(3)
    inputs = random_inputs(program)
    reference = run_reference(program, inputs)
    save_program(program, tmp_path / "p.safetensors")
    save_trace(reference, tmp_path / "a.npz")
    save_trace(run_fast(program, inputs), tmp_path / "b.npz")
    name = program.neurons[0].name
    spikes = np.array(reference.spikes[name])
    t, b = next(place for place in np.ndindex(spikes.shape[:2]) if 0 < spikes[place].sum() < spikes[place].size)
    flat = spikes[t, b].reshape(-1)
    here, there = np.flatnonzero(flat)[0], np.flatnonzero(flat == 0)[0]
    flat[here], flat[there] = 0, 1
    save_trace(replace(reference, spikes={**reference.spikes, name: spikes}), tmp_path / "c.npz")
    return tmp_path


def test_two_engines_cost_the_same_to_the_femtojoule_at_prices_of_one_hash(traces, capsys):
    arguments = ["parity", str(traces / "a.npz"), str(traces / "b.npz"), "--program", str(traces / "p.safetensors")]
    assert invoke([*arguments, "--json"]) == 0
    (engine,) = json.loads(capsys.readouterr().out)["engines"]
    assert engine["counts_equal"] is True
    tables = engine["energy"]["tables"]
    assert {name: row["prices_sha256"] for name, row in tables.items()} == {
        name: load_prices(name).sha256 for name in DEFAULT_PRICES
    }
    assert all(row["a"] == row["b"] and row["a"]["low"] > 0 for row in tables.values())
    assert invoke(arguments) == 0
    assert "counts equal, energy equal to the femtojoule (3 price tables)" in " ".join(capsys.readouterr().out.split())


def test_a_moved_spike_is_a_difference_and_its_energy_says_so(traces, capsys):
    report = parity_of_traces(traces / "a.npz", traces / "c.npz", program=traces / "p.safetensors")
    assert not report.equal
    assert report.engines[0].counts_equal is False
    assert report.engines[0].energy["equal"] is False
    arguments = ["parity", str(traces / "a.npz"), str(traces / "c.npz"), "--program", str(traces / "p.safetensors")]
    assert invoke(arguments) == 1
    assert "ENERGY DIFFERS" in capsys.readouterr().out


def test_the_gate_falls_for_energy_alone(traces):
    report = parity_of_traces(traces / "a.npz", traces / "b.npz", program=traces / "p.safetensors")
    assert report.equal
    other = replace(report.engines[0], energy={**report.engines[0].energy, "equal": False})
    assert not replace(report, engines=(other,)).equal


def test_one_operation_more_makes_every_tables_energy_differ(small_program, random_inputs):
    program = small_program(3)
    counts = count(program, run_reference(program, random_inputs(program)))
    name, layer = next(iter(counts.layers.items()))
    more = replace(counts, layers={**counts.layers, name: replace(layer, synops_stored=layer.synops_stored + 1)})
    found = energy_parity(counts, more)
    assert not any(table["equal"] for table in found["tables"].values())
    assert energy_parity(counts, counts)["equal"]


def test_traces_without_a_program_are_not_counted_and_a_program_belongs_to_traces_only(traces, capsys):
    assert parity_of_traces(traces / "a.npz", traces / "b.npz").engines[0].energy is None
    assert invoke(["parity", str(traces / "p.safetensors"), "--program", str(traces / "p.safetensors")]) == 2
    assert "--program is for two traces" in capsys.readouterr().err
