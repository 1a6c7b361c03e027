"""Energy of the checkpoint's own torch forward on this machine: measured, idle power subtracted."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from lavatube.errors import LavatubeError
from lavatube.inputs import InputBatch
from lavatube.sim.measured.nvml import nvml_meter
from lavatube.sim.measured.rapl import rapl_meter
from lavatube.train.device import torch_device
from lavatube.train.quantized import QuantizedModule
from lavatube.trained import load_quantized

KIND = "measured energy"
WINDOW = 2.0  # seconds; a counter of milliseconds says little below


class Meter(Protocol):
    """An energy counter."""

    name: str

    def microjoules(self) -> int: ...


@dataclass(frozen=True)
class Measured:
    """joules_per_sample: above idle; total_joules_per_sample: with idle power.  seconds: the window of the runs."""

    meter: str
    device: str
    batch: int
    num_steps: int
    runs: int
    seconds: float
    idle_watts: float
    running_watts: float
    joules_per_sample: float
    total_joules_per_sample: float
    seconds_per_sample: float

    def to_json(self) -> dict[str, Any]:
        return {"kind": KIND, "grade": "measured", "idle_subtracted": True, **asdict(self)}


def measure(folder: Path, inputs: InputBatch, *, device: str = "cpu", seconds: float = WINDOW) -> Measured:
    """Run the quantized checkpoint of a run folder on all samples at once, again and again.

    raises: LavatubeError without the device, and UnsupportedError without a meter for it.
    """
    if seconds < WINDOW:
        raise LavatubeError("measuring time", expected=f"at least {WINDOW:g} s", got=f"{seconds:g} s")
    where = torch_device(device)
    meter = meter_of(where)
    network = load_quantized(folder / "quantized.safetensors")
    module = QuantizedModule(network.layout, network.tensors).to(where).eval()
    events = torch.from_numpy(inputs.events.copy()).to(where)

    def forward() -> None:
        module.run(events)
        if where.type == "cuda":
            torch.cuda.synchronize(where)

    name = torch.cuda.get_device_name(where) if where.type == "cuda" else "CPU"
    return measured(meter, forward, name=name, batch=inputs.batch, num_steps=inputs.num_steps, seconds=seconds)


def measured(
    meter: Meter, forward: Callable[[], None], *, name: str, batch: int, num_steps: int, seconds: float
) -> Measured:
    """Warm up, take the idle power of one window, then count the runs of another."""
    forward()
    idle, _, _ = _window(meter, lambda: time.sleep(0.05), seconds)
    running, runs, length = _window(meter, forward, seconds)
    per_sample = length / (runs * batch)
    return Measured(
        meter.name,
        name,
        batch,
        num_steps,
        runs,
        length,
        idle,
        running,
        (running - idle) * per_sample,
        running * per_sample,
        per_sample,
    )


def meter_of(device: torch.device) -> Meter:
    """The meter of a device. raises: UnsupportedError where there is none."""
    if device.type == "cpu":
        return rapl_meter()
    if device.type != "cuda":
        raise LavatubeError("no meter for this device", expected="cpu or cuda", got=str(device))
    uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    return nvml_meter(None if uuid is None else f"GPU-{uuid}", device.index or 0)


def _window(meter: Meter, work: Callable[[], None], seconds: float) -> tuple[float, int, float]:
    """(watts, runs, seconds) of work repeated for a while."""
    started, before, runs = time.perf_counter(), meter.microjoules(), 0
    while time.perf_counter() - started < seconds:
        work()
        runs += 1
    after, length = meter.microjoules(), time.perf_counter() - started
    return (after - before) * 1e-6 / length, runs, length
