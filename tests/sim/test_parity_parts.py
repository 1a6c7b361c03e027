"""Many samples are compared part by part, with the result of comparing them at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lavatube.inputs import save_inputs
from lavatube.program_file import save_program
from lavatube.sim import parity as module
from lavatube.sim.parity import parity


@pytest.fixture
def files(tmp_path, small_program, random_inputs):
    program = small_program(3, overflow="hardware")
    save_program(program, tmp_path / "program.safetensors")
    inputs = random_inputs(program, 11, length=np.array([6, 5, 0, 0, 6, 6, 1, 6, 6, 6, 2]))
    save_inputs(replace(inputs, label=np.arange(11) % 5), tmp_path / "x.npz")
    return tmp_path / "program.safetensors", tmp_path / "x.npz", program


def parts_of(monkeypatch, program, samples):
    neurons = sum(int(np.prod(synapse.out_shape)) for synapse in program.synapses)
    monkeypatch.setattr(module, "NEURON_STEPS_AT_ONCE", samples * neurons * program.num_steps)


def without_seconds(report):
    plain = report.to_json()
    for engine in plain["engines"]:
        del engine["seconds"]
    return plain


@pytest.mark.parametrize("size", [1, 2, 5])
def test_parts_give_the_report_of_the_whole(files, monkeypatch, size):
    program_file, data, program = files
    whole = parity(program_file, data=data, against=["fast"], record=["u", "v"])
    parts_of(monkeypatch, program, size)
    seen = []
    parts = parity(
        program_file, data=data, against=["fast"], record=["u", "v"], progress=lambda *stage: seen.append(stage)
    )
    assert whole.equal
    assert without_seconds(parts) == without_seconds(whole)
    assert all(done <= total for done, total, _ in seen)
    assert "samples" in seen[0][2]


@pytest.mark.parametrize("sample", [0, 4, 10])
def test_a_fault_in_any_part_is_named_by_its_sample_of_the_whole(files, monkeypatch, sample):
    program_file, data, program = files
    honest, starts = module.run, iter([0, 4, 6, 8, 10])  # the part of samples 2 and 3, which are empty, is not run

    def faulty(source, inputs, *, backend, **options):
        trace = honest(source, inputs, backend=backend, **options)
        if backend == "fast" and (start := next(starts)) <= sample < start + inputs.batch:
            trace.spikes["layer2_lif"].setflags(write=True)
            trace.spikes["layer2_lif"][0, sample - start, 1, 0, 2] ^= 1
        return trace

    parts_of(monkeypatch, program, 2)
    monkeypatch.setattr(module, "run", faulty)
    report = parity(program_file, data=data, against=["fast"])
    assert not report.equal
    assert (report.first.layer, report.first.step, report.first.sample) == ("layer2_lif", 0, sample)
    assert sum(row.mismatches for row in report.engines[0].comparison.rows) == 1
