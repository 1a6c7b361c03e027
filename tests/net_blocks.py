"""Blocks of .net files as lava-dl writes them, for the tests."""

from __future__ import annotations

import h5py
import numpy as np

NEURON = {
    "neuron/type": "CUBA", "neuron/iDecay": 1024, "neuron/vDecay": 500, "neuron/vThMant": 60, "neuron/refDelay": 1,
    "neuron/gradedSpike": False,
}  # fmt: skip


def net_file(path, *blocks, **simulation):
    """Write blocks as lava-dl does: strings of one element, numbers as floats."""
    with h5py.File(path, "w") as file:
        file.create_group("layer")
        for number, block in enumerate(blocks):
            for name, value in block.items():
                data = np.array([value], "S10") if isinstance(value, str) else np.asarray(value)
                file[f"layer/{number}/{name}"] = data.astype("f4") if name.startswith("weight") else data
        for name, value in (simulation or {"Ts": 1, "tSample": 12}).items():
            file[f"simulation/{name}"] = value
    return path


def dense(weight, **more):
    return {"type": "dense", "shape": [len(weight)], "weight": weight, **NEURON, **more}


def conv(weight, shape, **more):
    sizes = {"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "groups": 1}
    return {"type": "conv", "shape": shape, "weight": weight, **sizes, **NEURON, **more}


def even(rng, *shape, limit=100):
    return 2 * rng.integers(-limit, limit, shape)


W = np.array([[2, 4, 6]])
K = np.ones((2, 1, 2, 2)) * 2
