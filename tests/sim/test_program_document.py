"""docs/program.md is enough to execute a program file: an executor from the page, safetensors and plain Python."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from safetensors import safe_open

from lavatube.program_file import save_program
from lavatube.sim.run import run


def truncated(x: int, n: int) -> int:
    return (abs(x) >> n) * (1 if x >= 0 else -1)


def int32(x: int) -> int:
    return (x + 2**31) % 2**32 - 2**31


def start(row):
    """The state of every neuron of a population at the start of a sample."""
    return [{"u": 0, "v": row["v_initial"], "rest": 0, "balance": 0} for _ in range(int(np.prod(row["shape"])))]


def neuron(row, cell, a, bias_mant):
    """Step one neuron; changes its cell and returns its event."""
    u = int32(truncated(cell["u"] * (4096 - row["du"] - 1), 12) + 64 * a)
    cell["u"] = u - 2**24 if u > 2**23 else u + 2**24 if u <= -(2**23) else u
    if cell["rest"]:
        cell["rest"] -= 1
        return 0
    v = int32(truncated(cell["v"] * (4096 - row["dv"]), 12) + cell["u"] + bias_mant * 2 ** row["bias_exp"])
    v = max(-(2**23 - 1), min(2**23 - 1, v))
    e = int(v > 64 * row["vth"]) if row["output"] != "none" else 0
    if row["output"] == "graded" and e:
        e = min(v // 2 ** row["payload_shift"], 2 ** row["payload_bits"] - 1)
    if row["output"] == "signed" and v < -64 * row["vth_low"] and (cell["balance"] > 0 or not row["memory_gate"]):
        e = -1
    if e:
        sign = 1 if e > 0 else -1
        v = v - 64 * row["vth"] * sign if row["reset"] == "subtract" else 0
        cell["rest"], cell["balance"] = row["refractory"], cell["balance"] + sign
    cell["v"] = v
    return e


def synapse(row, parts, s):
    """a, as a flat list in C order. s: the shaped integer events of one sample."""
    e, weight, flat = row["weight_exp"], parts["weight"], s.reshape(-1)
    if row["kind"] == "dense":
        sums = [sum(int(w) * int(x) for w, x in zip(line, flat, strict=True)) for line in weight]
    elif row["kind"] == "sparse":
        ends = parts["indptr"].tolist()
        stored = [range(a, b) for a, b in pairwise(ends)]
        sums = [sum(int(weight[c]) * int(flat[parts["index"][c]]) for c in group) for group in stored]
    else:
        (sh, sw), (ph, pw), (dh, dw) = row["stride"], row["padding"], row["dilation"]
        _, height, width = s.shape
        out, _, kh, kw = weight.shape
        sums = []
        for o in range(out):
            first = o // (out // row["groups"]) * weight.shape[1]
            for y in range((height + 2 * ph - dh * (kh - 1) - 1) // sh + 1):
                for x in range((width + 2 * pw - dw * (kw - 1) - 1) // sw + 1):
                    total = 0
                    for i, j, k in np.ndindex(weight.shape[1:]):
                        yy, xx = y * sh + j * dh - ph, x * sw + k * dw - pw
                        if 0 <= yy < height and 0 <= xx < width:
                            total += int(weight[o, i, j, k]) * int(s[first + i, yy, xx])
                    sums.append(total)
    return [int32(int32(a) << e) if e >= 0 else int32(a) // (1 << -e) for a in sums]


def execute(path, events):
    """{neuron name: events [T, ...]}, {read-out name: sums} of one sample. events: {input name: [T, ...]}."""
    with safe_open(str(path), framework="np") as opened:
        program = json.loads(opened.metadata()["lavatube"])
        tensor = {name: opened.get_tensor(name) for name in opened.keys()}
    nodes, edges = program["nodes"], program["edges"]
    place = {n["name"]: number for number, n in enumerate(nodes)}
    state = {n["name"]: start(n) for n in nodes if n["kind"] == "neuron"}
    made = {n["name"]: [] for n in nodes}
    readout = {n["name"]: [0] * len(tensor[f"{n['name']}.bias"]) for n in nodes if n["kind"] == "readout"}
    for t in range(len(next(iter(events.values())))):
        a = {}
        for n in nodes:
            name = n["name"]
            before = [source for source, into in edges if into == name]
            if n["kind"] == "input":
                made[name].append(events[name][t].reshape(-1))
            elif n["kind"] in ("dense", "sparse", "conv2d"):
                (source,) = before
                late = t - n["delay"] - (place[source] > place[name])
                s = made[source][late] if late >= 0 else np.zeros(int(np.prod(n["in_shape"])), np.int64)
                parts = {key: tensor.get(f"{name}.{key}") for key in ("weight", "index", "indptr")}
                a[name] = synapse(n, parts, s.reshape(n["in_shape"]))
            elif n["kind"] == "neuron":
                if n["reset_interval"] and t % n["reset_interval"] == n["reset_offset"]:
                    state[name] = start(n)
                drive = [int32(sum(each)) for each in zip(*(a[source] for source in before), strict=True)]
                bias = tensor[f"{name}.bias_mant"].reshape(-1)
                fired = [neuron(n, cell, x, int(b)) for cell, x, b in zip(state[name], drive, bias, strict=True)]
                made[name].append(np.array(fired))
            else:
                if n["reads"] == "current":
                    now = [int32(sum(each)) for each in zip(*(a[source] for source in before), strict=True)]
                elif n["reads"] == "spikes":
                    now = made[before[0]][t]
                else:
                    now = [cell["v"] for cell in state[before[0]]]
                    readout[name] = [0] * len(now)
                parts = zip(readout[name], now, tensor[f"{name}.bias"], strict=True)
                readout[name] = [r + int(x) + int(b) for r, x, b in parts]
    shapes = {n["name"]: n["shape"] for n in nodes if n["kind"] == "neuron"}
    return {name: np.stack(made[name]).reshape(-1, *shape) for name, shape in shapes.items()}, readout


def of_sample(inputs, sample):
    return {name: events[:, sample] for name, events in inputs.by_name.items()}


@pytest.mark.parametrize(("du", "message_bits"), [(4095, 8), (900, 8), (4095, 20)])
def test_every_engine_equals_an_execution_of_the_file_by_its_documented_schema(
    small_program, random_inputs, tmp_path, du, message_bits
):
    program = small_program(3, du=du, message_bits=message_bits)
    path = tmp_path / "program.safetensors"
    save_program(program, path)
    delayed = replace(program.nodes[3], delay=2)
    program = replace(program, nodes=(*program.nodes[:3], delayed, *program.nodes[4:]))
    save_program(program, path)
    inputs = random_inputs(program, batch=2)
    for backend in ("reference", "fast"):
        trace = run(path, inputs, backend=backend)
        for sample in range(inputs.batch):
            spikes, readout = execute(path, of_sample(inputs, sample))
            assert readout == {name: sums[sample].tolist() for name, sums in trace.readouts.items()}
            for name, value in spikes.items():
                np.testing.assert_array_equal(trace.spikes[name][:, sample], value)
                assert message_bits > 8 or 0 < value.mean() < 1


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs_of_every_node_do_what_the_page_says(random_program, random_inputs, tmp_path, seed):
    program = random_program(seed)
    path = tmp_path / "program.safetensors"
    save_program(program, path)
    inputs = random_inputs(program, batch=2)
    trace = run(path, inputs, backend="reference")
    for sample in range(inputs.batch):
        spikes, readout = execute(path, of_sample(inputs, sample))
        assert readout == {name: sums[sample].tolist() for name, sums in trace.readouts.items()}
        for name, value in spikes.items():
            np.testing.assert_array_equal(trace.spikes[name][:, sample], value)
