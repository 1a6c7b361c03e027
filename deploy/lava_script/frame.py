"""What every exported Lava script has around its network: text, because it runs in Lava's interpreter, not in ours."""

HEAD = '''# /// script
# requires-python = "==3.10.*"
# dependencies = ["lava-nc==0.10.0", "numpy<2"]
# ///
"""A spiking network as processes of stock Lava, with Loihi's integers.

    python {script} X.npz [TRACE.npz]

X.npz: `input` [T, B, ...] integers at every timestep, or [B, ...], presented at every one ({inputs}).
Prints the predictions. TRACE.npz gets every spike: `lavatube parity TRACE.npz OTHER.npz` compares it with another run.

Needs Python 3.10 with lava-nc 0.10.0 and NumPy below 2, nothing else: `uv run {script} X.npz` brings them.
The arrays are in {arrays}, beside this file.
Written by lavatube {version}.
"""

import hashlib
import json
import os
import sys
import warnings

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [each for each in sys.path if os.path.abspath(each) != HERE]  # a file here may be named as a module

import numpy as np
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.dense.process import Dense
from lava.proc.io.extractor import Extractor, PyLoihiExtractorModel
from lava.proc.io.source import RingBuffer as Source
from lava.proc.lif.process import LIFReset
from lava.proc.sparse.process import DelaySparse, Sparse
from lava.utils.weightutils import SignMode
from scipy.sparse import SparseEfficiencyWarning, coo_matrix, csr_matrix

warnings.simplefilter("ignore", SparseEfficiencyWarning)  # of how Lava fills its weights
ARRAYS = os.path.join(HERE, {arrays!r})
ARRAYS_SHA256 = {sha256!r}  # None: arrays that you changed; the trace then names no program
PROGRAM = {program!r}  # SHA-256 of the program that this is
NUM_STEPS = {num_steps}  # timesteps of a sample
PACE = {pace}  # ticks of a timestep
STREAMS = {streams}  # whether samples follow each other; else each has a run of its own
DEPTH = {depth}  # ticks from the input to the last process: each synapse takes one
INPUTS = {input_shapes}  # name: (shape, largest event)
NEURONS = {neurons}  # name: (shape, ticks that it lags the input)
READOUTS = {readouts}  # name: (what it reads, of which processes, ticks of lag)
BUFFER = 50  # ticks of events that are kept before they are fetched
'''

TAIL = '''

def wait(weights, ticks):
    """Delays of a DelaySparse that holds all events back alike."""
    return csr_matrix((np.full(weights.nnz, ticks), weights.indices, weights.indptr), shape=weights.shape)


def run(rows, arrays):
    """rows: {input: [ticks, neurons]}. Returns {population: [ticks, neurons]}, {read-out: [ticks, classes]}."""
    ticks = len(next(iter(rows.values())))
    network, parts = build({name: np.ascontiguousarray(each.T) for name, each in rows.items()}, arrays)
    heard, sums, voltages = {}, {}, {}
    for name in NEURONS:
        heard[name] = Extractor(shape=network[name].s_out.shape, buffer_size=BUFFER)
        network[name].s_out.connect(heard[name].in_port)
    for name, (reads, of, _) in READOUTS.items():
        if reads == "current":
            sums[name] = Extractor(shape=network[of[0]].a_out.shape, buffer_size=BUFFER)
            for synapse in of:
                network[synapse].a_out.connect(sums[name].in_port)
        elif reads == "voltage":
            voltages[name] = []
    events, read = {name: [] for name in heard}, {name: [] for name in sums}
    step = 1 if voltages else BUFFER  # a voltage is looked at between ticks
    for first in range(0, ticks, step):
        now = min(step, ticks - first)
        for part in parts:
            network[part].run(
                condition=RunSteps(num_steps=now),
                run_cfg=Loihi2SimCfg(
                    select_tag="fixed_pt", exception_proc_model_map={Extractor: PyLoihiExtractorModel}
                ),
                compile_config={"pypy_channel_size": 2},
            )
        for found, ends in ((events, heard), (read, sums)):
            for name, end in ends.items():
                found[name] += [end.receive().astype(np.int64) for _ in range(now)]
        for name, seen in voltages.items():
            seen.append(network[READOUTS[name][1][0]].v.get().astype(np.int64))
    for part in parts:
        network[part].stop()
    read.update(voltages)
    return tuple({name: np.stack(each) for name, each in found.items()} for found in (events, read))


def window(values, lag, samples):
    """[ticks, neurons] of a process that lags the input -> [T, samples, neurons] in logical time."""
    values = values[lag : lag + samples * NUM_STEPS * PACE : PACE]
    return values.reshape(samples, NUM_STEPS, -1).swapaxes(0, 1)


def stored(path, sha256=None):
    """{name: array} of an .npz file. Ends with a line that says what is wrong with it."""
    try:
        with open(path, "rb") as file:
            if sha256 is not None and hashlib.sha256(file.read()).hexdigest() != sha256:
                sys.exit(f"{path}: not the arrays that belong to this script; export both again")
            with np.load(path, allow_pickle=False) as found:
                return {name: found[name] for name in found.files}
    except Exception as error:
        sys.exit(f"{path}: not readable as .npz: {error}")


def simulate(events):
    """events: {input: [T, B, neurons]}. Returns {population: [T, B, neurons]}, {read-out: [B, classes]}."""
    arrays = stored(ARRAYS, ARRAYS_SHA256)
    batch = next(iter(events.values())).shape[1]
    together = batch if STREAMS else 1
    spikes, readouts = {name: [] for name in NEURONS}, {name: [] for name in READOUTS}
    for first in range(0, batch, together):
        rows = {}
        for name, each in events.items():
            part = each[:, first : first + together].swapaxes(0, 1).reshape(together * NUM_STEPS, -1)
            rows[name] = np.zeros((len(part) * PACE + DEPTH, part.shape[1]), np.int32)
            rows[name][: len(part) * PACE : PACE] = part
        found, read = run(rows, arrays)
        for name, (_, lag) in NEURONS.items():
            spikes[name].append(window(found[name], lag, together))
        for name, (reads, of, lag) in READOUTS.items():
            if reads == "voltage":
                readouts[name].append(window(read[name], lag, together)[-1] + arrays[f"{name}.bias"])
            else:
                each = window(read[name], lag, together) if reads == "current" else spikes[of[0]][-1]
                readouts[name].append(each.sum(0) + NUM_STEPS * arrays[f"{name}.bias"])
    return (
        {name: np.concatenate(parts, 1) for name, parts in spikes.items()},
        {name: np.concatenate(parts) for name, parts in readouts.items()},
    )


def key(kind, name, names):
    """Where the file has an input or a read-out: by its kind if there is one only."""
    return kind if len(names) == 1 else f"{kind}/{name}"


def load(path):
    """{input: [T, B, ...]} of X.npz. Ends with a line that says what does not fit."""
    arrays, events = stored(path), {}
    keys = [key("input", name, INPUTS) for name in INPUTS]
    if set(arrays) - {"length", "label"} != set(keys):
        sys.exit(f"{path}: expected {', '.join(keys)}, and length or label if you like; got {', '.join(arrays)}")
    for wanted, (name, (shape, most)) in zip(keys, INPUTS.items()):
        value = arrays[wanted]
        if value.ndim == len(shape) + 1:
            value = np.broadcast_to(value, (NUM_STEPS, *value.shape))
        if value.shape[2:] != shape or len(value) != NUM_STEPS or not value.size:
            sys.exit(f"{path}: `{wanted}` {value.shape}, expected ({NUM_STEPS}, samples, *{shape})")
        whole = value.dtype.kind in "iub" or (value.dtype.kind == "f" and (value == np.floor(value)).all())
        if not whole or value.min() < 0 or value.max() > most:
            sys.exit(f"{path}: `{wanted}` has values beside the integers 0..{most}")
        events[name] = value.astype(np.int64)
    batches = {value.shape[1] for value in events.values()}
    if len(batches) > 1:
        sys.exit(f"{path}: inputs of different numbers of samples")
    if "length" in arrays and not np.array_equal(arrays["length"], np.full(batches.pop(), NUM_STEPS)):
        sys.exit(f"{path}: `length` is not {NUM_STEPS} for every sample; other lengths run by themselves")
    return events


def main(source, target=None):
    events = load(source)
    if target is not None:
        if os.path.realpath(target) in (os.path.realpath(source), os.path.realpath(ARRAYS)):
            sys.exit(f"{target}: would replace what is read")
        if os.path.isdir(target) or not os.access(os.path.dirname(os.path.abspath(target)), os.W_OK):
            sys.exit(f"{target}: cannot be written")
    flat = {name: value.reshape(*value.shape[:2], -1) for name, value in events.items()}
    spikes, readouts = simulate(flat)
    for name, value in readouts.items():
        print(f"{name}: {value.argmax(1).tolist()}")
    if target is None:
        return
    batch = len(next(iter(readouts.values())))
    names = {"layers": list(NEURONS), "inputs": list(INPUTS), "readouts": list(READOUTS)}
    program = "changed arrays" if ARRAYS_SHA256 is None else PROGRAM
    meta = {"engine": "lava", "device": "cpu", "program_sha256": program, **names}
    trace = {"length": np.full(batch, NUM_STEPS, np.int64), "meta": np.array(json.dumps(meta, sort_keys=True))}
    trace.update({key("input", name, INPUTS): value for name, value in events.items()})
    trace.update({key("readout", name, READOUTS): value for name, value in readouts.items()})
    trace.update({key("prediction", name, READOUTS): value.argmax(1) for name, value in readouts.items()})
    for name, (shape, _) in NEURONS.items():
        trace[f"spikes/{name}"] = spikes[name].reshape(NUM_STEPS, batch, *shape).astype(np.uint8)
    with open(f"{target}.part", "wb") as file:  # whole or not at all
        np.savez_compressed(file, **trace)
    os.replace(f"{target}.part", target)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(f"usage: python {os.path.basename(__file__)} X.npz [TRACE.npz]")
    main(*sys.argv[1:])
'''
