"""Neurons that stock Lava lacks: soft reset, refractory period, signed and graded events, a start of their own.

A second implementation, from docs/program.md: it does not import the step of the reference.
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
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


class Population(AbstractProcess):
    """Neurons of one `NeuronNode`, in flat order.

    options:  the fields of the node but its name and shape; `bias_mant` has one value a neuron of this process.
    start:    tick of their first timestep; before it they are at rest and silent.
    window:   timesteps of a sample; each begins at rest.
    pace:     ticks of a timestep; the step is at the first of them, at the others state rests and nothing is sent.
    a_in:     activations, int32; s_out: events, int32; u, v: as after the tick.
    """

    def __init__(
        self, *, shape: tuple[int, ...], options: dict[str, Any], start: int, window: int, pace: int, name: str
    ) -> None:
        super().__init__(shape=shape, options=options, start=start, window=window, pace=pace, name=name)
        self.a_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)
        self.u = Var(shape=shape, init=0)
        self.v = Var(shape=shape, init=options["v_initial"])


@implements(proc=Population, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyPopulationModel(PyLoihiProcessModel):
    """u 24 bits, wraps once; v 24 bits, saturates; decays of 1/4096 toward zero; thresholds are in 64 units of v."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
    u: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=24)
    v: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=24)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.options = proc_params["options"]
        self.first, self.window, self.pace = proc_params["start"], proc_params["window"], proc_params["pace"]
        self.bias = self.options["bias_mant"].astype(np.int64) * 2 ** self.options["bias_exp"]

    def run_spk(self) -> None:
        activation = self.a_in.recv().astype(np.int64)
        step, between = divmod(self.time_step - self.first, self.pace)
        if step < 0 or between:
            self.s_out.send(np.zeros_like(self.u))
            return
        t, o = step % self.window, self.options
        if t == 0 or (o["reset_interval"] and t % o["reset_interval"] == o["reset_offset"]):
            self.u, self.v = np.zeros_like(self.u), np.full_like(self.v, o["v_initial"])
            self.rest, self.sent = np.zeros(self.u.shape, np.int64), np.zeros(self.u.shape, np.int64)
        u = kept(self.u, 4096 - o["du"] - 1) + 64 * activation
        u = (u + 2**31) % 2**32 - 2**31
        u[u > 2**23] -= 2**24
        u[u <= -(2**23)] += 2**24
        v = (kept(self.v, 4096 - o["dv"]) + u + self.bias + 2**31) % 2**32 - 2**31
        v = np.minimum(np.maximum(v, 1 - 2**23), 2**23 - 1)
        resting = self.rest > 0
        v[resting] = self.v[resting]
        event = self.events(v)
        event[resting] = 0
        self.rest[resting] -= 1
        self.rest[event != 0] = o["refractory"]
        sign = np.sign(event)
        self.sent += sign
        if o["reset"] == "subtract":
            v -= sign * o["vth"] * 64
        else:
            v[event != 0] = 0
        self.u, self.v = u.astype(np.int32), v.astype(np.int32)
        self.s_out.send(event.astype(np.int32))

    def events(self, v: np.ndarray) -> np.ndarray:
        """Of neurons that do not rest."""
        o = self.options
        event = np.zeros(v.shape, np.int64)
        if o["output"] == "none":
            return event
        above = v > o["vth"] * 64
        if o["output"] == "graded":
            event[above] = np.minimum(v[above] // 2 ** o["payload_shift"], 2 ** o["payload_bits"] - 1)
            return event
        event[above] = 1
        if o["output"] == "signed":
            below = v < -o["vth_low"] * 64
            if o["memory_gate"]:
                below &= self.sent > 0
            event[below] = -1
        return event


def kept(state: np.ndarray, fraction: int) -> np.ndarray:
    """state * fraction / 4096 toward zero, int64."""
    product = state.astype(np.int64) * fraction
    return np.where(product < 0, -(-product // 4096), product // 4096)
