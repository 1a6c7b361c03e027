# /// script
# requires-python = "==3.10.*"
# dependencies = ["nengo-loihi==1.1.0", "nengo==4.1.0", "numpy==1.23.5", "scipy==1.10.1"]
# ///
"""A chain of the benchmark in nengo-loihi's emulator of Loihi 1, in an interpreter of its own: simulation_nengo.py JOB.

JOB: a folder with job.json (synapses and neurons in order), their weights <n>.npy and events.npy [T, B, ...]. The
program's weights, leaks and thresholds become blocks of its own classes; its `discretize_model` rounds them. One sample
at a time, which is all the emulator knows; it is built anew for each, which is not timed. Leaves readout.npy
[B, classes] and spikes.json, the spikes of each population, and prints seconds of the emulator's steps for each sample.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

warnings.simplefilter("ignore")  # it was tested with an older nengo, and says of each weight that it is rounded

import nengo  # noqa: E402
from nengo_loihi.block import Axon, LoihiBlock, Synapse  # noqa: E402
from nengo_loihi.builder import Model  # noqa: E402
from nengo_loihi.builder.discretize import discretize_model  # noqa: E402
from nengo_loihi.conv import conv2d_loihi_weights  # noqa: E402
from nengo_loihi.emulator import EmulatorInterface  # noqa: E402
from nengo_loihi.inputs import SpikeInput  # noqa: E402
from nengo_loihi.probe import LoihiProbe  # noqa: E402

NEVER = 60_000.0  # threshold of the read-out, in units of weights; its current is read


def connect(before: Any, block: LoihiBlock, weight: np.ndarray, layer: dict[str, Any]) -> None:
    """A dense synapse by rows of its inputs; a convolution by its shared weights, on an image with the border drawn."""
    if layer["kind"] == "dense":
        synapse, axon = Synapse(weight.shape[1]), Axon(weight.shape[1])
        synapse.set_weights(weight.T)
        axon.set_compartment_axon_map(np.arange(weight.shape[1]))
    else:
        (channels, height, width), (down, right) = layer["in_shape"], layer["padding"]
        wide = (channels, height + 2 * down, width + 2 * right)
        shape = nengo.transforms.ChannelShape(wide, channels_last=False)
        transform = nengo.Convolution(
            len(weight), shape, strides=layer["stride"], channels_last=False, padding="valid",
            kernel_size=weight.shape[2:], init=weight.transpose(2, 3, 1, 0),
        )  # fmt: skip
        assert transform.output_shape.shape == tuple(layer["out_shape"])
        pixels = wide[1] * wide[2]
        synapse, axon = Synapse(pixels), Axon(pixels)
        synapse.set_population_weights(*conv2d_loihi_weights(transform), pop_type=32)
        channel, y, x = np.meshgrid(*(np.arange(n) for n in layer["in_shape"]), indexing="ij")
        places = (y + down) * wide[2] + x + right
        axon.set_compartment_axon_map(places.ravel(), atoms=channel.ravel())
    axon.target = synapse
    block.add_synapse(synapse)
    before.add_axon(axon)


def build(job: Path, layers: list[dict[str, Any]]) -> tuple[Model, SpikeInput, LoihiProbe, list[LoihiBlock]]:
    model = Model(dt=0.001)
    source = before = SpikeInput(int(np.prod(layers[0]["in_shape"])))
    model.add_input(source)
    blocks = []
    for number, layer in enumerate(layers):
        weight = np.load(job / f"{number}.npy").astype(np.float32) * 2.0 ** layer["weight_exp"]
        block = LoihiBlock(int(np.prod(layer["out_shape"])))
        cells = block.compartment
        cells.scale_u, cells.vmin = False, -NEVER
        cells.decay_v[:] = layer["dv"] / 4095  # which it multiplies by 4095 and rounds
        cells.vth[:] = layer["vth"] if layer["vth"] is not None else NEVER
        connect(before, block, weight.astype(np.float32), layer)
        model.add_block(block)
        blocks.append(block)
        before = block
    probe = LoihiProbe(target=before, key="current")
    model.add_probe(probe)
    discretize_model(model)
    return model, source, probe, blocks


def main() -> None:
    job = Path(sys.argv[1])
    layers = json.loads((job / "job.json").read_text())
    events = np.load(job / "events.npy")
    model, source, probe, blocks = build(job, layers)
    info, depth = blocks[-1].discretize_info, len(layers)
    steps, batch = events.shape[:2]
    seconds, readout, spikes = [], [], np.zeros(depth - 1, np.int64)
    for sample in range(batch):
        source.spikes.clear()
        for step, row in enumerate(events[:, sample].reshape(steps, -1)):
            source.add_spikes(step + 1, np.flatnonzero(row))
        with EmulatorInterface(model, seed=0) as emulator:
            started = time.perf_counter()
            emulator.run_steps(steps + depth)  # a synapse takes one
            # in its favour: at both ends there are layers without events
            seconds.append((time.perf_counter() - started) * steps / (steps + depth))
            state = emulator.compartment
            counts = [int(state.spike_count[emulator.block_info.slices[block]].sum()) for block in blocks[:-1]]
            current = np.asarray(emulator.collect_probe_output(probe))
        spikes += counts
        readout.append(current.astype(np.float64).sum(0) / float(info["v_scale"]))
    np.save(job / "readout.npy", np.stack(readout))
    (job / "spikes.json").write_text(json.dumps(spikes.tolist()))
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
