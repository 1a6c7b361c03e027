"""Reading processes: what arrives at a port, or the state of a process, goes to a file, one row of int32 a tick.

Input and output only: they change nothing, and spare `Var.get`, which passes one element a message.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyRefPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, RefPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


class PortRecorder(AbstractProcess):
    """Appends what arrives at `a_in` to the file `path`."""

    def __init__(self, *, shape: tuple[int, ...], path: str) -> None:
        super().__init__(shape=shape, path=path)
        self.a_in = InPort(shape=shape)


@implements(proc=PortRecorder, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyPortRecorderModel(PyLoihiProcessModel):
    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.path = proc_params["path"]

    def run_spk(self) -> None:
        append(self.path, self.a_in.recv())


class StateRecorder(AbstractProcess):
    """Appends a Var of another process, as it is after the tick, to the file `path`. Call `watch` once."""

    def __init__(self, *, shape: tuple[int, ...], path: str) -> None:
        super().__init__(shape=shape, path=path)
        self.state = RefPort(shape)

    def watch(self, var: Any) -> None:
        self.state.connect_var(var)


@implements(proc=StateRecorder, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyStateRecorderModel(PyLoihiProcessModel):
    state: PyRefPort = LavaPyType(PyRefPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.path = proc_params["path"]

    def post_guard(self) -> bool:
        return True

    def run_post_mgmt(self) -> None:
        append(self.path, self.state.read())


def append(path: str, row: np.ndarray) -> None:
    """Unbuffered: a process of Lava may be ended at any time after its last tick."""
    with open(path, "ab", buffering=0) as handle:
        handle.write(np.ascontiguousarray(row, np.int32).tobytes())
