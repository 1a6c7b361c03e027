"""The quantized checkpoint's own forward as an engine: never a network rebuilt from the program."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from lavatube.files import sha256_of_file
from lavatube.inputs import InputBatch
from lavatube.integer_layer import population_name
from lavatube.sim.engine import cut_inputs
from lavatube.sim.fast import ELEMENTS_AT_ONCE
from lavatube.trace import SpikeTrace, versions, within_length
from lavatube.train.device import torch_device
from lavatube.train.quantized import QuantizedModule
from lavatube.trained import QuantizedNetwork, load_quantized


def run_torch(
    checkpoint: Path | QuantizedNetwork,
    inputs: InputBatch,
    *,
    record: frozenset[str] = frozenset(),
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> SpikeTrace:
    """Run quantized.safetensors on a device; all names are those of the program made from it.

    raises: LavatubeError for an unknown device or a checkpoint that is not one.
    """
    network = checkpoint if isinstance(checkpoint, QuantizedNetwork) else load_quantized(checkpoint)
    module = QuantizedModule(network.layout, network.tensors).to(torch_device(device)).eval()
    layout = module.layout
    keep = sorted({"u", "v"} & record)
    widest = max(int(np.prod(layer["out_shape"])) for layer in layout["layers"])
    chunk = max(1, ELEMENTS_AT_ONCE // (widest * inputs.num_steps))
    spikes: dict[str, list[np.ndarray]] = {}
    states: dict[str, dict[str, list[np.ndarray]]] = {kind: {} for kind in keep}
    populations = [population_name(layer["name"]) for layer in layout["layers"] if layer["neuron"]]
    overflow = {kind: dict.fromkeys(populations, 0) for kind in ("wraps", "saturations")}
    readout = np.zeros((inputs.batch, layout["layers"][-1]["out_shape"][0]), np.int64)
    for start in range(0, inputs.batch, chunk):
        rows = slice(start, start + chunk)
        events = torch.from_numpy(inputs.events[:, rows].copy()).to(device)
        for run in module.run(events, keep):
            name = population_name(run.name)
            if run.neurons is None:
                total = run.activation.cpu().numpy()
                readout[rows] = within_length(total, inputs.length[rows]).sum(0)
                continue
            for kind, where in (("wraps", run.neurons.wrapped), ("saturations", run.neurons.saturated)):
                overflow[kind][name] += int(within_length(where.cpu().numpy(), inputs.length[rows]).sum())
            made = run.neurons.events.cpu().numpy()
            neuron = next(row for row in layout["layers"] if row["name"] == run.name)["neuron"]
            if neuron["output"] != "signed" and neuron["payload_bits"] <= 8:
                made = made.astype(np.uint8)
            spikes.setdefault(name, []).append(made)
            for kind in keep:
                states[kind].setdefault(name, []).append(run.neurons.states[kind].to(torch.int32).cpu().numpy())
        if progress is not None:
            progress(min(start + chunk, inputs.batch), inputs.batch)

    def whole(group: dict[str, list[np.ndarray]]) -> dict[str, np.ndarray]:
        return {name: within_length(np.concatenate(parts, 1), inputs.length) for name, parts in group.items()}

    meta = {
        "engine": "torch",
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else device,
        "versions": {**versions(), "torch": torch.__version__},
        "overflow": overflow,
    }
    if isinstance(checkpoint, Path):
        meta["checkpoint_sha256"] = sha256_of_file(checkpoint)
    groups = {kind: whole(group) for kind, group in states.items()}
    ends = cut_inputs(inputs), whole(spikes), {"output": readout}
    return SpikeTrace(*ends, inputs.length, meta, **groups)
