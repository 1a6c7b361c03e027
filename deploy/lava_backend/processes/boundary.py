"""Where other people's processes meet a network of ours: one flat port in C order, whatever lies behind it."""

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


class Boundary(AbstractProcess):
    """Passes on what arrives at `a_in` through `a_out`, in the same tick. size: values, flat in C order."""

    def __init__(self, *, size: int, name: str) -> None:
        super().__init__(name=name)
        self.a_in = InPort(shape=(size,))
        self.a_out = OutPort(shape=(size,))


@implements(proc=Boundary, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyBoundaryModel(PyLoihiProcessModel):
    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    a_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)

    def run_spk(self) -> None:
        self.a_out.send(self.a_in.recv())
