"""A program file is whole, checked and refused with one clear line."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lavatube.errors import LavatubeError
from lavatube.files import read_tensors, sha256_of_arrays, write_tensors
from lavatube.program import Conv2dNode, DenseNode, NeuronNode
from lavatube.program_file import KIND, describe, load_program, program_from, program_sha256, save_program


def rewritten(path, change):
    """The file with its header changed by `change`."""
    tensors, header = read_tensors(path, kind=KIND)
    change(header)
    write_tensors(path, tensors, header)


def test_a_program_survives_save_and_load_bit_for_bit(small_program, tmp_path):
    program = small_program(1, bits=4, overflow="strict")
    save_program(program, tmp_path / "p.safetensors")
    loaded = load_program(tmp_path / "p.safetensors")
    assert program_sha256(loaded) == program_sha256(program)
    for name, value in describe(program)[0].items():
        np.testing.assert_array_equal(describe(loaded)[0][name], value)


def test_one_weight_bit_changes_the_hash(small_program):
    program = small_program(1)
    weight = program.nodes[1].weight.copy()
    weight.flat[3] ^= 2
    changed = replace(program, nodes=(program.nodes[0], replace(program.nodes[1], weight=weight), *program.nodes[2:]))
    assert program_sha256(changed) != program_sha256(program)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda h: h.update(schema="9"), "unknown program schema, expected 1.0"),
        (lambda h: h.update(extra=1), "missing or unknown keys, got extra"),
        (lambda h: h.pop("lossy"), "missing or unknown keys, got lossy"),
        (lambda h: h["nodes"][2].update(vth=1 << 17), "vth, expected 0..131071, got 131072"),
        (lambda h: h["nodes"][2].update(du=-1), "du, expected 0..4095, got -1"),
        (lambda h: h["nodes"][2].update(reset="soft"), "reset, expected zero, subtract"),
        (lambda h: h["nodes"][2].update(gain=2), "unknown fields, got gain"),
        (lambda h: h["nodes"][2].update(payload_bits=3), "payload_bits, expected 0..0"),
        (lambda h: h["nodes"][2].update(dv=True), "dv, expected 0..4095, got True"),
        (lambda h: h["nodes"][1].update(kind="conv3d"), "unknown node"),
        (lambda h: h["nodes"][0].update(name="../../x"), "node name, expected letters, digits"),
        (lambda h: h["nodes"][1].update(delay=63), "delay, expected 0..62, got 63"),
        (lambda h: h["nodes"][1].pop("stride"), "field stride is missing"),
        (lambda h: h["nodes"][1].update(num_weight_bits=7.0), "num_weight_bits"),
        (lambda h: h["edges"].pop(), "edges of this node"),
        (lambda h: h["contract"].update(version=1), "expected version 2, got version 1; lower it again"),
        (lambda h: h["contract"].update(comparator=">="), "comparator is not supported, expected '>', got '>='"),
        (lambda h: h.update(num_steps=0), "num_steps"),
        (lambda h: h.update(overflow="ignore"), "overflow"),
        (lambda h: h.update(nodes="none"), "malformed"),
        (lambda h: h.update(tensors_sha256="0" * 64), "checksum"),
    ],
)
def test_a_wrong_description_is_refused_with_file_place_and_rule(small_program, tmp_path, change, words):
    path = tmp_path / "p.safetensors"
    save_program(small_program(1), path)
    rewritten(path, change)
    with pytest.raises(LavatubeError) as caught:
        load_program(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_no_node_has_a_place_for_is_refused_behind_a_right_checksum(small_program):
    tensors, header = describe(small_program(1))
    name = header["nodes"][1]["name"]
    odd = tensors | {"layer9.weight": np.zeros(3, np.int16)}
    with pytest.raises(LavatubeError, match=r"p: tensors of no node, got layer9\.weight"):
        program_from(odd, header | {"tensors_sha256": sha256_of_arrays(odd)}, where="p")
    header["nodes"][1]["weight"] = [[1]]
    with pytest.raises(LavatubeError, match=f"p: {name}: unknown fields, got weight"):
        program_from(tensors, header, where="p")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(position=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255), cut=st.booleans())
def test_a_damaged_file_loads_unchanged_or_raises_our_error(small_program, tmp_path, position, byte, cut):
    path = tmp_path / "p.safetensors"
    program = small_program(1)
    save_program(program, path)
    raw = bytearray(path.read_bytes())
    at = int(position * len(raw))
    raw = raw[:at] if cut else raw[:at] + bytes([byte]) + raw[at + 1 :]
    path.write_bytes(raw)
    try:
        loaded = load_program(path)
    except LavatubeError:
        return
    # what is not under the checksum of the tensors is the description; any change there that loads is a valid program
    assert describe(loaded)[0].keys() == describe(program)[0].keys()


def test_off_grid_weights_wide_biases_and_wrong_shapes_are_refused():
    even = np.full((2, 3), 2, np.int16)
    with pytest.raises(LavatubeError, match=r"multiples of 2 in -256..254, got 1..1"):
        DenseNode("d", (3,), np.ones((2, 3), np.int16), 8, -1)
    with pytest.raises(LavatubeError, match="weight columns, expected 4"):
        DenseNode("d", (4,), even, 8, -1)
    with pytest.raises(LavatubeError, match="13 bits"):
        NeuronNode("l", (1,), 4095, 0, 1, np.array([4096], np.int16), 0)
    with pytest.raises(LavatubeError, match="kernel is larger"):
        Conv2dNode("c", (1, 2, 2), np.zeros((1, 1, 3, 3), np.int16), 8, -1)


def test_no_half_written_file_is_left_when_writing_fails(small_program, tmp_path, monkeypatch):
    monkeypatch.setattr("lavatube.files.os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(LavatubeError, match="No space left"):
        save_program(small_program(1), tmp_path / "p.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_the_header_is_plain_json(small_program):
    assert json.loads(json.dumps(describe(small_program(1))[1]))["schema"] == "1.0"
