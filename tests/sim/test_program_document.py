"""docs/program.md is enough to execute a program file: an executor from the page, safetensors and plain Python."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors import safe_open

from lavatube.program_file import save_program
from lavatube.sim.run import run


def truncated(x: int, n: int) -> int:
    return (abs(x) >> n) * (1 if x >= 0 else -1)


def int32(x: int) -> int:
    return (x + 2**31) % 2**32 - 2**31


def synapse(row, weight, s):
    """a, as a flat list in C order. s: the shaped integer events of one sample."""
    e = row["weight_exp"]
    if row["kind"] == "dense":
        sums = [sum(int(w) * int(x) for w, x in zip(line, s.reshape(-1), strict=True)) for line in weight]
    else:
        (sh, sw), (ph, pw) = row["stride"], row["padding"]
        _, height, width = s.shape
        out, _, kh, kw = weight.shape
        sums = []
        for o in range(out):
            for y in range((height + 2 * ph - kh) // sh + 1):
                for x in range((width + 2 * pw - kw) // sw + 1):
                    total = 0
                    for i, j, k in np.ndindex(weight.shape[1:]):
                        yy, xx = y * sh + j - ph, x * sw + k - pw
                        if 0 <= yy < height and 0 <= xx < width:
                            total += int(weight[o, i, j, k]) * int(s[i, yy, xx])
                    sums.append(total)
    return [int32(int32(a) << e) if e >= 0 else int32(a) // (1 << -e) for a in sums]


def execute(path, events):
    """{lif name: spikes [T, ...]}, read-out of one sample. events: [T, ...]."""
    with safe_open(str(path), framework="np") as opened:
        program = json.loads(opened.metadata()["lavatube"])
        tensor = {name: opened.get_tensor(name) for name in opened.keys()}
    nodes = program["nodes"]
    u = {n["name"]: [0] * int(np.prod(n["shape"])) for n in nodes if n["kind"] == "lif"}
    v = {name: list(state) for name, state in u.items()}
    spikes = {name: [] for name in u}
    seen = {n["name"]: [] for n in nodes}
    readout = [0] * len(tensor["output.bias"])
    for t in range(len(events)):
        s, a = events[t], []
        for n in nodes[1:]:
            name = n["name"]
            if n["kind"] in ("dense", "conv2d"):
                seen[name].append(s)
                s = seen[name][t - n["delay"]] if t >= n["delay"] else np.zeros_like(s)
                a = synapse(n, tensor[f"{name}.weight"], s)
            elif n["kind"] == "lif":
                bias, fired = tensor[f"{name}.bias_mant"].reshape(-1), []
                for i, drive in enumerate(a):
                    current = int32(truncated(u[name][i] * (4096 - n["du"] - 1), 12) + 64 * drive)
                    if current > 2**23:
                        current -= 2**24
                    elif current <= -(2**23):
                        current += 2**24
                    voltage = truncated(v[name][i] * (4096 - n["dv"]), 12) + current
                    voltage = int32(voltage + int(bias[i]) * 2 ** n["bias_exp"])
                    voltage = max(-(2**23 - 1), min(2**23 - 1, voltage))
                    fired.append(int(voltage > 64 * n["vth"]))
                    u[name][i], v[name][i] = current, 0 if fired[-1] else voltage
                s = np.array(fired).reshape(n["shape"])
                spikes[name].append(s)
            else:
                readout = [r + x + int(b) for r, x, b in zip(readout, a, tensor[f"{name}.bias"], strict=True)]
    return {name: np.stack(value) for name, value in spikes.items()}, readout


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
            spikes, readout = execute(path, inputs.events[:, sample])
            assert readout == trace.readout[sample].tolist()
            for name, value in spikes.items():
                np.testing.assert_array_equal(trace.spikes[name][:, sample], value)
                assert message_bits > 8 or 0 < value.mean() < 1
