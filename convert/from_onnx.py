"""A feed-forward ANN from an ONNX file -> a torch module: a teacher, or what a spiking network is converted from."""

from __future__ import annotations

import keyword
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from lavatube.convert.onnx_layers import LAYERS, VALUES_MAX, Call, build
from lavatube.convert.safe_onnx import OUR_DOMAINS, load_onnx, tensor_values
from lavatube.errors import LavatubeError, UnsupportedError

FLOAT = 1  # TensorProto.FLOAT
CASTS = {FLOAT: np.float32, 7: np.int64}
TAKEN = {"meta", "training"}  # attributes that a GraphModule sets on itself
KNOWN = (*LAYERS, "Add", "Cast", "Constant", "Dropout", "Identity")  # Cast: of a constant
Shape = tuple[int, ...]


def read_onnx(path: Path | str) -> fx.GraphModule:
    """Read a feed-forward network of the operators in KNOWN, opset 7..23, float32, one input, one output.

    Returns a GraphModule in evaluation mode that takes [B, *input_shape]. Each layer is a named submodule of torch
    (Conv2d, Linear, BatchNorm2d, ReLU, ...); the sum of two tensors is `torch.add`; Identity and Dropout are gone.
    `module.meta` holds opset, producer, input_shape, output_shape and shapes, the output of each layer.

    raises: LavatubeError for a damaged file, shapes that do not fit, a cycle; UnsupportedError, by name, for anything
    that is not in the list above.
    """
    model = load_onnx(Path(path))
    refused = refused_operators(model)
    if refused:
        expected, got = ", ".join(KNOWN), ", ".join(f"{name} ({count})" for name, count in refused.items())
        raise UnsupportedError("operators that no layer stands for", where=str(path), expected=expected, got=got)
    reader = _Reader(model, str(path))
    for node in model.graph.node:
        reader.add(node)
    return reader.finish()


def refused_operators(model: Any) -> dict[str, int]:
    """{operator: how often} of what `read_onnx` refuses whatever its settings."""
    return dict(Counter(node.op_type for node in model.graph.node if node.op_type not in KNOWN))


class _Reader:
    """Goes through the nodes in the file's order, which ONNX demands to be the order of use."""

    def __init__(self, model: Any, where: str) -> None:
        self.where, self.model = where, model
        self.opset = next(row.version for row in model.opset_import if row.domain in OUR_DOMAINS)
        self.graph = fx.Graph()
        self.modules: dict[str, nn.Module] = {}
        self.shapes: dict[str, Shape] = {}  # of tensors, one sample: [1, ...]
        self.layer_shapes: dict[str, Shape] = {}
        self.nodes: dict[str, fx.Node] = {}
        self.constants = {tensor.name: tensor_values(tensor, where=where) for tensor in model.graph.initializer}
        if len(self.constants) != len(model.graph.initializer):
            raise LavatubeError("two tensors of one name", where=where)
        self.uses = Counter(name for node in model.graph.node for name in node.input)
        self.uses.update(output.name for output in model.graph.output)
        inputs = [value for value in model.graph.input if value.name not in self.constants]
        if len(inputs) != 1 or len(model.graph.output) != 1:
            got = f"{[value.name for value in inputs]}, {[value.name for value in model.graph.output]}"
            raise UnsupportedError("inputs and outputs", where=where, expected="one of each", got=got)
        self.input = inputs[0]
        self.shapes[self.input.name], self.batch = self._input_shape(self.input)
        self.nodes[self.input.name] = self.graph.placeholder("input")

    def _input_shape(self, value: Any) -> tuple[Shape, int]:
        where, kind = f"{self.where}: input {value.name!r}", value.type.tensor_type
        if kind.elem_type != FLOAT or not kind.HasField("shape"):
            raise UnsupportedError("input", where=where, expected="float32 with a shape", got=str(kind)[:80])
        sizes = [size.dim_value for size in kind.shape.dim]
        if len(sizes) < 2 or min(sizes[1:]) < 1 or sizes[0] < 0 or math.prod(sizes[1:]) > VALUES_MAX:
            raise UnsupportedError(
                "input shape", where=where, expected="[batch, fixed sizes]",
                got=str([size.dim_param or size.dim_value for size in kind.shape.dim]),
                remedy="write the file with fixed sizes; only the batch may be open",
            )  # fmt: skip
        return (1, *sizes[1:]), sizes[0]

    def add(self, node: Any) -> None:
        where = f"{self.where}: {node.op_type} {node.name or (node.output[0] if node.output else '')!r}"
        outputs = [name for name in node.output if name]
        if len(outputs) != 1 or outputs[0] in self.nodes or outputs[0] in self.constants:
            got = ", ".join(outputs) or "none"
            raise UnsupportedError("outputs", where=where, expected="one, of a name of its own", got=got)
        for name in node.input:
            if name and name not in self.nodes and name not in self.constants:
                raise LavatubeError("an input that nothing made before", where=where, expected="no cycle", got=name)
        if node.op_type == "Constant":
            self.constants[outputs[0]] = _constant(node, where)
        elif node.op_type == "Cast":
            self.constants[outputs[0]] = self._cast(node, where)
        elif node.op_type in ("Identity", "Dropout"):
            self._pass(node, outputs[0], where)
        elif node.op_type == "Add":
            self._sum(node, outputs[0], where)
        else:
            self._layer(node, outputs[0], where)

    def finish(self) -> fx.GraphModule:
        name = self.model.graph.output[0].name
        if name not in self.nodes:
            raise LavatubeError("the output is not made from the input", where=self.where, got=name)
        self.graph.output(self.nodes[name])
        self.graph.lint()
        module = fx.GraphModule(self.modules, self.graph, class_name="OnnxNetwork").eval()
        module.meta = {
            "opset": self.opset,
            "producer": self.model.producer_name,
            "input_shape": self.shapes[self.input.name][1:],
            "output_shape": self.shapes[name][1:],
            "shapes": self.layer_shapes,
        }
        return module

    def _layer(self, node: Any, output: str, where: str) -> None:
        source, *others = node.input or ("",)
        if source not in self.nodes or any(name in self.nodes for name in others):
            expected = "a tensor first, then constants"
            raise UnsupportedError("inputs", where=where, expected=expected, got=", ".join(node.input))
        constants = {place: self.constants[name] for place, name in enumerate(others, 1) if name}
        attributes = {row.name: _value(row, where) for row in node.attribute}
        call = Call(where, self.shapes[source], attributes, constants, self.opset, self.batch)
        module, shape = build(node.op_type, call)
        target = self._name(node)
        self.modules[target] = module
        self.layer_shapes[target] = shape[1:]
        self._made(output, self.graph.call_module(target, (self.nodes[source],)), shape, where)

    def _cast(self, node: Any, where: str) -> np.ndarray:
        """torch writes the bounds of a Clip so."""
        to = {row.name: _value(row, where) for row in node.attribute}.get("to")
        if len(node.input) != 1 or node.input[0] not in self.constants or to not in CASTS:
            raise UnsupportedError("a cast", where=where, expected="a constant to float32 or int64", got=f"type {to}")
        with np.errstate(invalid="ignore", over="ignore"):  # whoever uses the value looks at it
            return self.constants[node.input[0]].astype(CASTS[to])

    def _made(self, output: str, node: fx.Node, shape: Shape, where: str) -> None:
        if math.prod(shape) > VALUES_MAX or math.prod(shape) < 1:
            raise LavatubeError("output shape", where=where, expected=f"1..{VALUES_MAX} values", got=str(shape))
        self.nodes[output], self.shapes[output] = node, shape

    def _pass(self, node: Any, output: str, where: str) -> None:
        training = self.constants.get(node.input[2]) if len(node.input) > 2 else None
        if not node.input or (node.input[0] not in self.nodes and node.op_type == "Dropout"):
            raise UnsupportedError("inputs", where=where, expected="a tensor", got=", ".join(node.input))
        if len(node.input) > (most := 3 if node.op_type == "Dropout" else 1):
            raise UnsupportedError("inputs", where=where, expected=f"at most {most}", got=str(len(node.input)))
        if training is not None and training.any():
            raise UnsupportedError("training_mode", where=where, expected="false")
        source = node.input[0]
        if source in self.constants:
            self.constants[output] = self.constants[source]
        else:
            self.nodes[output], self.shapes[output] = self.nodes[source], self.shapes[source]
            self.uses[source] += self.uses[output] - 1
            self.uses[output] = self.uses[source]

    def _sum(self, node: Any, output: str, where: str) -> None:
        """Two tensors of one shape, or the bias of the layer before."""
        names = list(node.input)
        tensors = [name for name in names if name in self.nodes]
        if len(names) == 2 and len(tensors) == 2:
            first, second = (self.shapes[name] for name in tensors)
            if first != second:
                raise UnsupportedError("a sum", where=where, expected="two equal shapes", got=f"{first} + {second}")
            added = self.graph.call_function(torch.add, tuple(self.nodes[name] for name in tensors))
            self._made(output, added, first, where)
            return
        if len(names) != 2 or len(tensors) != 1:
            raise UnsupportedError("a sum", where=where, expected="two inputs, a tensor among them", got=str(names))
        (source,), (constant,) = tensors, [self.constants[name] for name in names if name in self.constants]
        before = self.nodes[source]
        layer = self.modules[str(before.target)] if before.op == "call_module" else None
        expected = "a bias after a Conv or MatMul without one"
        if not isinstance(layer, nn.Conv2d | nn.Linear) or layer.bias is not None or self.uses[source] != 1:
            raise UnsupportedError("a sum with constants", where=where, expected=expected, got=str(constant.shape))
        outputs = int(layer.weight.shape[0])
        shape = self.shapes[source]
        axis = 1 if isinstance(layer, nn.Conv2d) else len(shape) - 1
        column = (outputs, *(1,) * (len(shape) - 1 - axis))
        full = (1,) * max(constant.ndim - len(column), 0) + column
        if constant.dtype != np.float32 or constant.shape != full or constant.ndim > len(shape):
            raise UnsupportedError("a sum with constants", where=where, expected=expected, got=str(constant.shape))
        if not np.isfinite(constant).all():
            raise UnsupportedError("a sum with constants", where=where, expected="finite numbers", got="infinity")
        layer.bias = nn.Parameter(torch.from_numpy(constant.reshape(-1).copy()))
        self.nodes[output], self.shapes[output] = before, shape

    def _name(self, node: Any) -> str:
        """A submodule's name: that of its weight (conv1.weight: conv1), of the node, or of its operator."""
        weights = [name[: -len(".weight")] for name in node.input if name.endswith(".weight")]
        name = re.sub(r"\W+", "_", weights[0] if weights else node.name or node.op_type, flags=re.ASCII).strip("_")
        if (
            not name
            or not name[0].isalpha()
            or keyword.iskeyword(name)
            or name in TAKEN
            or hasattr(fx.GraphModule, name)
        ):
            name = f"layer_{name}"
        taken, number = name, 1
        while taken in self.modules:
            taken, number = f"{name}_{number}", number + 1
        return taken


def _value(attribute: Any, where: str) -> Any:
    kinds = {1: "f", 2: "i", 3: "s", 6: "floats", 7: "ints"}  # AttributeProto.AttributeType
    if attribute.type not in kinds:
        got = f"type {attribute.type}"
        raise UnsupportedError(f"attribute {attribute.name}", where=where, expected="numbers or a text", got=got)
    value = getattr(attribute, kinds[attribute.type])
    return list(value) if attribute.type > 3 else value


def _constant(node: Any, where: str) -> np.ndarray:
    for row in node.attribute:
        if row.name == "value" and row.HasField("t"):
            return tensor_values(row.t, where=where)
        if row.name in ("value_float", "value_floats"):
            value = np.array(_value(row, where), np.float32)
            if np.isnan(value).any():  # infinity may bound a Clip
                raise LavatubeError("a constant holds NaN", where=where, expected="numbers")
            return value
        if row.name in ("value_int", "value_ints"):
            return np.array(_value(row, where), np.int64)
    raise UnsupportedError("constant", where=where, expected="numbers", got=str([row.name for row in node.attribute]))
