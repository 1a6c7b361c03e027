"""lava-dl's own recorded networks, from .net file to program to engine: every spike, every u and every v."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from lava_wheels import Wheel, wheel

from lavatube.deploy.net_file.read import lower_net
from lavatube.inputs import make_inputs
from lavatube.neuron_node import NeuronNode
from lavatube.neuron_step import NeuronState, at_rest, step
from lavatube.program import DenseNode, InputNode, LoihiProgram, ReadoutNode
from lavatube.sim.fast import run_fast
from lavatube.sim.reference import run_reference

DATA = Path(__file__).parents[1] / "data"
ENGINES = {"reference": run_reference, "fast": run_fast}
MARKER = 128  # what the chip's register shows for v on a step with a spike


def by_time(array):
    """[T, ...] int64, channels first, of lava-dl's (x, y, channel, T) or (neuron, T)."""
    moved = np.moveaxis(np.asarray(array), -1, 0).astype(np.int64)
    return moved.transpose(0, 3, 2, 1) if moved.ndim == 4 else moved


@pytest.fixture(scope="module")
def gts() -> Wheel:
    return wheel("lava-dl==0.6.0", "tests/lava/lib/dl/netx/gts")


def program_of(gts, name, tmp_path, **options):
    path = tmp_path / "network.net"
    path.write_bytes(gts.bytes(name))
    return lower_net(path, **options)


@pytest.mark.parametrize("run", ENGINES.values(), ids=ENGINES)
def test_tinynet_equals_its_recorded_spikes_and_currents(run):
    program = lower_net(DATA / "lava_dl_tiny.net", num_steps=15)
    assert (program.lossy, program.readout.reads) == ((), "spikes")
    with np.load(DATA / "lava_dl_tiny.npz") as golden:
        image = golden["input_bias"].transpose(2, 1, 0)[None].astype(np.int64)
        trace = run(program, make_inputs(image, program.input, default_steps=15), record=frozenset("uv"))
        for layer, name, total in (("layer0", "input", 6783), ("layer1", "layer1", 1633), ("layer2", "output", 92)):
            recorded = np.moveaxis(golden[name][0], -1, 0)
            np.testing.assert_array_equal(trace.spikes[layer][:, 0], recorded[1:])
            assert recorded.sum() == total
        np.testing.assert_array_equal(trace.u["layer1"][:, 0], 64 * np.moveaxis(golden["current"][0], -1, 0)[1:])


@pytest.mark.wheels
@pytest.mark.parametrize("run", ENGINES.values(), ids=ENGINES)
def test_pilotnet_equals_the_recorded_chip_in_every_layer(gts, tmp_path, run):
    """23 steps, with a reset after 17. Layer l is recorded l steps late; what was before is of another sample."""
    program = program_of(gts, "pilotnet_lif/network.net", tmp_path, num_steps=24, reset_interval=17)
    assert (program.lossy, program.readout.reads) == ((), "voltage")
    image = gts.array("pilotnet_lif/image.npy").transpose(2, 1, 0)[None]
    trace = run(program, make_inputs(image, program.input, default_steps=24), record=frozenset("uv"))
    np.testing.assert_array_equal(trace.spikes["layer0"][:, 0], by_time(gts.array("pilotnet_lif/input.npy")))
    layers = [name for name in trace.spikes if name not in ("layer0", "layer10")]
    records = [f"conv-{n}" for n in range(5)] + [f"fc-{n}" for n in range(3)]
    for late, (layer, record) in enumerate(zip(layers, records, strict=True), 1):
        spikes, u, v = (by_time(gts.array(f"pilotnet_lif/{record}{what}.npy")) for what in ("", "-u", "-v"))
        steps = 24 - late
        assert spikes[late:].any(), layer
        for what, ours, theirs in (
            ("spikes", trace.spikes, spikes),
            ("u", trace.u, u),
            ("v", trace.v, np.where(spikes.astype(bool) & (v == MARKER), 0, v)),
        ):
            mine = ours[layer][:steps, 0].reshape(steps, *theirs.shape[1:])
            np.testing.assert_array_equal(mine, theirs[late:], err_msg=f"{layer} {what}")


@pytest.mark.wheels
def test_the_output_of_pilotnet_integrates_as_recorded(gts, tmp_path):
    """The last layer was recorded in another run, with a reset after 16 steps: its v follows from its u."""
    neurons = program_of(gts, "pilotnet_lif/network.net", tmp_path).by_name["layer10"]
    assert isinstance(neurons, NeuronNode)
    u, v = (gts.array(f"pilotnet_lif/fc-3-{what}.npy")[0].astype(np.int64) for what in "uv")
    state = at_rest(neurons, 1)
    for t in range(25):
        state = NeuronState(state.u * 0, state.v * ((t - 8) % 16 != 0), state.resting, state.balance)
        state, now = step(neurons, state, np.full((1, 1, 1, 1), u[t] // 64).reshape(1, *neurons.shape), t)
        assert (int(state.u.sum()), int(state.v.sum()), int(now.events.sum())) == (u[t], v[t], 0)


@pytest.mark.wheels
@pytest.mark.parametrize("run", ENGINES.values(), ids=ENGINES)
def test_dense_200_256_equals_2000_recorded_steps(gts, run):
    weight = gts.array("dense/weight.npy")
    nodes = (
        InputNode("input", (200,), 1),
        DenseNode("dense", (200,), weight.astype(np.int16), 8, 0),
        NeuronNode("lif", (256,), 4095, 415, 6, np.zeros(256, np.int16), 6),
        ReadoutNode("output", np.zeros(256, np.int64), "spikes"),
    )
    edges = (("input", "dense"), ("dense", "lif"), ("lif", "output"))
    program = LoihiProgram(nodes, edges, 2000, {"kind": "test", "sha256": ""})
    events = by_time(gts.array("dense/in.npy"))[:, None]
    trace = run(program, make_inputs(events, program.input, default_steps=2000), record=frozenset("u"))
    golden = by_time(gts.array("dense/out.npy"))
    np.testing.assert_array_equal(trace.spikes["lif"][:-1, 0], golden[1:])  # recorded one step late
    np.testing.assert_array_equal(trace.u["lif"][:-1, 0], 64 * by_time(gts.array("dense/current.npy"))[1:])
    assert golden.sum() == 1826


@pytest.mark.wheels
@pytest.mark.parametrize("run", ENGINES.values(), ids=ENGINES)
def test_a_network_with_delays_and_carried_current_equals_3000_recorded_steps(gts, tmp_path, run):
    program = program_of(gts, "ntidigits/ntidigits.net", tmp_path)
    delays = {synapse.delay for synapse in program.synapses}
    assert (min(delays), max(delays), len(delays)) == (0, 62, 56)
    events = by_time(gts.array("ntidigits/input.npy")).reshape(3000, 1, 1, 1, 64)
    trace = run(program, make_inputs(events, program.input, default_steps=3000))
    golden = by_time(gts.array("ntidigits/output.npy"))
    np.testing.assert_array_equal(trace.spikes["layer4"][:-4, 0], golden[4:])  # recorded four steps late
    groups = trace.spikes["layer4"][:, 0].reshape(3000, 11, 22)  # the average block, as sums
    np.testing.assert_array_equal(trace.readout[0], groups.sum((0, 2), dtype=np.int64))
    assert golden.sum() == 22572
