"""An ONNX graph while it is written: nodes, constants, and Loihi's integer operations in operators of int64.

Every rule below is in the ONNX specification, none leans on what an executor happens to do: integer Div truncates,
Mod (fmod = 0) has the sign of its divisor. Out-of-range Casts (undefined) and BitShift (unsigned only) are not used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lavatube import __version__
from lavatube.fixed_point import DECAY_ONE
from lavatube.optional import optional_package
from lavatube.program import Shape

OPSET, IR_VERSION = 17, 8  # what ONNX Runtime 1.20 and every newer one reads
BATCH = "batch"


class StepGraph:
    """Collects an ONNX graph. Values have names; every one is int64 except conditions. `scope` prefixes new names.

    t: the name of the timestep.
    """

    t = "t"

    def __init__(self) -> None:
        self.helper = optional_package("onnx", extra="onnx", purpose="writing ONNX").helper
        self.nodes: list[Any] = []
        self.initializers: dict[str, Any] = {}
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.scope = ""

    def op(self, kind: str, *inputs: str | int, **attributes: Any) -> str:
        """Append a node; an int becomes a constant. Returns the name of its output."""
        name = f"{self.scope}/{len(self.nodes)}_{kind}"
        values = [self.constant(value) if isinstance(value, int) else value for value in inputs]
        self.nodes.append(self.helper.make_node(kind, values, [name], name, **attributes))
        return name

    def constant(self, value: int | Sequence[int]) -> str:
        """An int64 scalar or vector, stored once."""
        name = "constant/" + "_".join(map(str, [value] if isinstance(value, int) else ["of", *value]))
        return self.tensor(name, np.array(value, np.int64))

    def tensor(self, name: str, value: np.ndarray) -> str:
        """Store an array under a name."""
        dtype = self.helper.np_dtype_to_tensor_dtype(value.dtype)
        self.initializers[name] = self.helper.make_tensor(name, dtype, value.shape, value.tobytes(), raw=True)
        return name

    def int64(self, name: str) -> str:
        return self.op("Cast", name, to=self.helper.np_dtype_to_tensor_dtype(np.dtype(np.int64)))

    def input(self, name: str, shape: Sequence[int | str]) -> str:
        self.inputs.append(self._info(name, shape))
        return name

    def output(self, name: str, value: str, shape: Sequence[int | str]) -> None:
        self.nodes.append(self.helper.make_node("Identity", [value], [name], name))
        self.outputs.append(self._info(name, shape))

    def shaped(self, value: str, *shape: int) -> str:
        """Reshape each sample."""
        return self.op("Reshape", value, self.constant([-1, *shape]))

    def floor_shift(self, value: str, bits: int) -> str:
        """floor(value / 2^bits)."""
        return self.op("Div", self.op("Sub", value, self.op("Mod", value, 1 << bits)), 1 << bits) if bits else value

    def int32(self, value: str) -> str:
        """Wrap into 32 bits signed."""
        half = 1 << 31
        return self.op("Sub", self.op("Mod", self.op("Add", value, half), 2 * half), half)

    def leak(self, state: str, keep: int) -> str:
        """tz(state * keep, 12), toward zero, as integer Div rounds."""
        return self.op("Div", self.op("Mul", state, keep), DECAY_ONE)

    def model(self, name: str, doc: str, metadata: dict[str, str]) -> Any:
        """The ModelProto."""
        graph = self.helper.make_graph(self.nodes, name, self.inputs, self.outputs, list(self.initializers.values()))
        model = self.helper.make_model(
            graph, producer_name="lavatube", producer_version=__version__, doc_string=doc, ir_version=IR_VERSION,
            opset_imports=[self.helper.make_opsetid("", OPSET)],
        )  # fmt: skip
        self.helper.set_model_props(model, metadata)
        return model

    def _info(self, name: str, shape: Sequence[int | str]) -> Any:
        return self.helper.make_tensor_value_info(
            name, self.helper.np_dtype_to_tensor_dtype(np.dtype(np.int64)), list(shape)
        )


def batched(shape: Shape) -> tuple[int | str, ...]:
    return (BATCH, *shape)
