"""A program that is written as a .net file is read as itself, or is refused by name; and the command line for both."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from net_blocks import NEURON, K, W, conv, dense, even, net_file

from lavatube.cli.app import invoke
from lavatube.deploy.lower import lower
from lavatube.deploy.net_file.read import lower_net
from lavatube.deploy.net_file.write import write_net
from lavatube.errors import UnsupportedError
from lavatube.program import LoihiProgram, SparseNode
from lavatube.program_file import describe, load_program, save_program


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.net"


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_written_program_is_read_as_itself(tmp_path_factory, seed):
    path = tmp_path_factory.mktemp("net") / "x.net"
    program = random_net(path, seed)
    write_net(program, path.with_name("y.net"))
    again = lower_net(path.with_name("y.net"), overflow="hardware", input_bits=program.input.message_bits)
    (tensors, header), (tensors_again, header_again) = describe(program), describe(again)
    assert tensors.keys() == tensors_again.keys()
    assert all(np.array_equal(tensors[name], tensors_again[name]) for name in tensors)
    for both in (header, header_again):
        both.pop("source")
        both.pop("lossy")
    assert header == header_again


def random_net(path, seed) -> LoihiProgram:
    """Lowered from a random file: an image or a vector, convolutions, delays, recurrence, three kinds of ends."""
    rng = np.random.default_rng(seed)
    blocks, features = [], int(rng.integers(1, 8))
    if rng.random() < 0.5:
        shape = (int(rng.integers(1, 3)), int(rng.integers(3, 6)), int(rng.integers(3, 6)))
        currents = {"weight": [36.0], "bias": [34.0], **NEURON, "neuron/iDecay": 4096} if rng.random() < 0.5 else {}
        blocks.append({"type": "input", "shape": shape, **currents})
        channels, kernel = int(rng.integers(1, 4)), rng.integers(1, 4, 2)
        out = (channels, *(np.array(shape[1:]) - kernel + 1))
        weight = even(rng, channels, shape[0], *kernel)
        blocks.append(
            conv(weight[..., None] if rng.random() < 0.5 else weight, out, bias=rng.integers(-60, 60, channels))
        )
        blocks.append({"type": "flatten", "shape": [int(np.prod(out)), 1, 1]})
        features = int(np.prod(out))
    else:
        blocks.append({"type": "input", "shape": [features]})
    for _ in range(int(rng.integers(1, 4))):
        units = int(rng.integers(1, 8))
        block = dense(even(rng, units, features), bias=rng.integers(-60, 60, units))
        kind = rng.random()
        if kind < 0.3:
            block["delay"] = rng.integers(0, 63, units).astype("f4")
        elif kind < 0.5:
            block |= {"type": "dense_rec", "weight_rec": even(rng, units, units)}
        blocks.append(block)
        features = units
    if rng.random() < 0.5:
        blocks.append({"type": "dense", "shape": [3], "weight": even(rng, 3, features)})
    elif rng.random() < 0.5 and blocks[-1]["type"] == "dense":
        blocks[-1] = {**blocks[-1], "neuron/vThMant": (1 << 18) - 1}
    return lower_net(net_file(path, *blocks), overflow="hardware")


def test_synapses_that_fit_alone_but_not_together_are_refused(path, tmp_path):
    """One block is one matrix: 253 and -3 have no common 8 bits, though each has its own."""
    program = lower_net(net_file(path, dense(W * 10, bias=[3])), overflow="hardware")
    first = program.synapses[0]
    target, shape = program.neurons[0], (int(np.prod(first.out_shape)), int(np.prod(first.in_shape)))

    def one(name, column, weight, sign, delay):
        indptr = np.arange(shape[0] + 1)
        index = np.full(shape[0], column, np.int32)
        return SparseNode(
            name, first.in_shape, first.out_shape, np.full(shape[0], weight, np.int16), index, indptr, 8, 0, delay, sign
        )

    parts = one("a", 0, 253, "excitatory", 0), one("b", 1, -3, "inhibitory", 1)
    nodes = (program.nodes[0], *parts, *(node for node in program.nodes[1:] if node is not first))
    edges = [edge for edge in program.edges if first.name not in edge]
    edges += [("input", "a"), ("input", "b"), ("a", target.name), ("b", target.name)]
    with pytest.raises(UnsupportedError, match="weights that are not 8 bits within"):
        write_net(replace(program, nodes=nodes, edges=tuple(edges)), tmp_path / "out.net")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"node": "layer0_dense", "weight_exp": -9 + 4}, "a weight that is no integer"),
        ({"node": "layer0_dense", "weight_exp": 4}, "weights that are not 8 bits within"),
        ({"node": "layer0", "bias_exp": 0}, "a bias that is no whole number"),
        ({"node": "layer0", "refractory": 2}, "not Loihi's plain integrate-and-fire"),
        ({"node": "layer0", "reset": "subtract"}, "not Loihi's plain integrate-and-fire"),
        ({"node": "output", "bias": np.array([1])}, "a read-out of spikes"),
        ({"node": "output", "reads": "voltage"}, "a read-out of voltage"),
        ({"node": "layer0", "reset_interval": 4, "reset_offset": 1}, "a periodic reset"),
    ],
)
def test_a_program_that_a_net_file_cannot_say_is_refused_by_name(path, change, words):
    program = lower_net(net_file(path, dense(W * 10, bias=[3])), overflow="hardware")
    name = change.pop("node")
    nodes = tuple(replace(node, **change) if node.name == name else node for node in program.nodes)
    with pytest.raises(UnsupportedError, match=words):
        write_net(replace(program, nodes=nodes), path.with_name("y.net"))
    assert not path.with_name("y.net").exists()


def test_the_command_line_lowers_inspects_and_exports(path, capsys, tmp_path):
    net_file(path, conv(K, [2, 2, 2]), {"type": "flatten", "shape": [8]}, dense(np.full((3, 8), 20)), Ts=1)
    out, back = tmp_path / "p.safetensors", tmp_path / "back.net"
    assert invoke(["inspect", str(path)]) == 0
    assert "give (C, H, W)" in capsys.readouterr().out
    words = "--num-steps 9 --input-shape 1,3,3 --input-bits 4 --reset-interval 3".split()
    assert invoke(["lower", str(path), "--out", str(out), *words]) == 0
    program = load_program(out)
    assert (program.num_steps, program.input.shape, program.input.message_bits) == (9, (1, 3, 3), 4)
    assert {node.reset_interval for node in program.neurons} == {3}
    assert invoke(["export", str(out), "--net", str(back)]) == 0
    assert "give netx.hdf5.Network input_message_bits=4, reset_interval=3" in capsys.readouterr().out
    assert invoke(["inspect", str(back)]) == 0
    assert "loihi2 accepts it" in capsys.readouterr().out
    assert lower(back).by_name["layer1_conv"].weight.tolist() == program.by_name["layer0_conv"].weight.tolist()


def test_options_of_net_files_are_refused_for_nir_and_bad_sizes_in_one_line(path, capsys, tmp_path, small_program):
    save_program(small_program(1), tmp_path / "p.safetensors")
    for words in (["lower", "x.nir", "--num-steps", "3"], ["lower", str(path), "--input-shape", "3,x"]):
        assert invoke(words) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert invoke(["export", str(tmp_path / "p.safetensors"), "--net", str(path)]) == 2
    assert "has no exact place in a .net file" in capsys.readouterr().err
