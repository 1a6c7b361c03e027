"""Our own synapses: exact products of samples side by side, which stock Lava does one after another or by non-zeros.

A second implementation: sums are floating-point matrix products of integers that stay below the mantissa, so exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

FLOAT32_EXACT, FLOAT64_EXACT = 1 << 24, 1 << 53


class Projection(AbstractProcess):
    """Weights between the samples of `lanes` copies of a source and of a target, both flat: (lanes * size,).

    weight:  (out, in) array or sparse matrix, or (out channel, in channel / groups, height, width) of a convolution.
    window:  of a convolution: {"in_shape", "stride", "padding", "dilation", "groups"}, else None.
    largest: of the events' magnitudes; wait: ticks that sums are held back beyond the one that every synapse takes.
    """

    def __init__(
        self,
        *,
        weight: Any,
        weight_exp: int,
        lanes: int,
        sizes: tuple[int, int],
        largest: int,
        wait: int,
        name: str,
        window: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            weight=weight, weight_exp=weight_exp, lanes=lanes, largest=largest, wait=wait, window=window, name=name
        )
        self.s_in = InPort(shape=(lanes * sizes[0],))
        self.a_out = OutPort(shape=(lanes * sizes[1],))


@implements(proc=Projection, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyProjectionModel(PyLoihiProcessModel):
    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    a_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        weight, window = proc_params["weight"], proc_params["window"]
        self.window, self.lanes, self.weight_exp = window, proc_params["lanes"], proc_params["weight_exp"]
        rows = weight if window is None else weight.reshape(len(weight), -1)
        bound = int(abs(rows.astype(np.int64)).sum(1).max()) * proc_params["largest"]
        if bound >= FLOAT64_EXACT:
            raise ValueError(f"sums can reach {bound}, beyond what float64 adds exactly")
        self.weight = weight.astype(np.float32 if bound < FLOAT32_EXACT else np.float64)
        self.held = [None] * (proc_params["wait"] + 1)  # sums of the ticks before, the oldest first

    def run_spk(self) -> None:
        due = self.held.pop(0)  # sent before anything is received: a cycle would wait for itself otherwise
        self.a_out.send(np.zeros(self.a_out.shape, np.int32) if due is None else due)
        events = self.s_in.recv().reshape(self.lanes, -1)
        sums = self.products(events.astype(self.weight.dtype)).astype(np.int64)
        sums = sums.astype(np.int32).astype(np.int64)  # Lava's channels
        e = self.weight_exp
        sums = sums * 2**e if e >= 0 else sums // 2**-e  # floor
        self.held.append(sums.astype(np.int32).reshape(-1))

    def products(self, events: np.ndarray) -> np.ndarray:
        """[lanes, out] of events [lanes, in]."""
        if self.window is None:
            return np.ascontiguousarray((self.weight @ events.T).T)
        w = self.window
        (down, right), (pad_y, pad_x), (far_y, far_x) = w["stride"], w["padding"], w["dilation"]
        height, width = self.weight.shape[2:]
        image = np.pad(events.reshape(len(events), *w["in_shape"]), ((0, 0), (0, 0), (pad_y, pad_y), (pad_x, pad_x)))
        size = (far_y * (height - 1) + 1, far_x * (width - 1) + 1)
        seen: np.ndarray = np.lib.stride_tricks.sliding_window_view(image, size, axis=(2, 3))  # type: ignore[call-overload]
        seen = seen[:, :, ::down, ::right, ::far_y, ::far_x]  # [lanes, in channel, y, x, height, width]
        groups = w["groups"]
        parts = []
        for kernel, part in zip(np.split(self.weight, groups), np.split(seen, groups, axis=1), strict=True):
            columns = part.transpose(0, 2, 3, 1, 4, 5).reshape(-1, kernel[0].size)
            parts.append((columns @ kernel.reshape(len(kernel), -1).T).reshape(len(events), -1, len(kernel)))
        sums: np.ndarray = np.concatenate(parts, 2).transpose(0, 2, 1).reshape(len(events), -1)
        return sums
