"""A stranger's ONNX file, checked before protobuf reads it: bounded in memory, no way out of the file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.files import require_file
from lavatube.optional import optional_package

OPSETS = range(7, 24)
OUR_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True)
class OnnxLimits:
    """Caps that an .onnx file must keep. structure_bytes: of everything that is not the values of a tensor.

    Protobuf makes a message of some 100 bytes from two bytes of a file, so the cap on structure bounds the memory.
    """

    file_bytes: int = 1 << 30
    structure_bytes: int = 4 << 20
    fields: int = 400_000
    nodes: int = 10_000
    tensors: int = 10_000
    rank: int = 8


def load_onnx(path: Path, limits: OnnxLimits = OnnxLimits()) -> Any:
    """Read a model of the standard operators. Returns an onnx.ModelProto whose tensors lie in the file itself.

    raises: LavatubeError naming the file, the place and the rule: too large, damaged, data outside the file,
            UnsupportedError for subgraphs, functions, operators outside the standard or an opset that is not 7..23.
    """
    onnx = optional_package("onnx", extra="onnx", purpose="reading ONNX")
    require_file(path, kind="an ONNX model")
    size = Path(path).stat().st_size
    if size > limits.file_bytes:
        raise LavatubeError("too large", where=str(path), expected=f"at most {limits.file_bytes} bytes", got=str(size))
    data = Path(path).read_bytes()
    try:
        _Wire(data, limits).walk(MODEL, 0, len(data))
        model = onnx.ModelProto.FromString(data)
    except (ValueError, IndexError) as error:
        raise _damaged(path, error) from error
    except Exception as error:  # protobuf's DecodeError has another base in each of its implementations
        raise _damaged(path, error) from error
    if not all(isinstance(text, str) for text in _texts(model)):  # protobuf hands out bytes for what is not UTF-8
        raise LavatubeError("damaged or foreign file", where=str(path), expected="names in UTF-8")
    _check(model, str(path), limits)
    return model


def tensor_values(tensor: Any, *, where: str) -> np.ndarray:
    """The values of a TensorProto that `load_onnx` accepted. raises: LavatubeError if they do not fit its shape."""
    helper = optional_package("onnx.numpy_helper", extra="onnx", purpose="reading ONNX")
    try:
        value = np.asarray(helper.to_array(tensor))
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, AttributeError, RuntimeError) as error:
        raise LavatubeError(f"tensor {tensor.name!r}", where=where, got=str(error)) from error
    if value.dtype.kind not in "fiub":
        raise LavatubeError(f"tensor {tensor.name!r}", where=where, expected="numbers", got=str(value.dtype))
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        raise LavatubeError(f"tensor {tensor.name!r} holds NaN or infinity", where=where, expected="finite numbers")
    return value


# Protobuf field numbers of onnx.proto: {field of a message: the message inside, or None for the values of a tensor}
Layout = dict[int, "Layout | None"]
TENSOR: Layout = {field: None for field in (4, 5, 7, 9, 10, 11)}
MODEL: Layout = {7: {1: {5: {5: TENSOR}}, 5: TENSOR}}
VARINT, LONG, BYTES, SHORT = 0, 1, 2, 5


class _Wire:
    """Walks the wire format along the paths that hold tensors, and counts all other bytes."""

    def __init__(self, data: bytes, limits: OnnxLimits) -> None:
        self.data, self.limits, self.structure, self.fields = data, limits, 0, 0

    def walk(self, layout: Layout, start: int, end: int) -> None:
        """raises: ValueError for bytes that are no protobuf, or for too much structure; IndexError past the end."""
        at = start
        while at < end:
            begin = at
            key, at = self.varint(at)
            field, kind = key >> 3, key & 7
            length = {LONG: 8, SHORT: 4}.get(kind, 0)
            if kind == VARINT:
                _, at = self.varint(at)
            elif kind == BYTES:
                length, at = self.varint(at)
            elif not length:
                raise ValueError(f"wire type {kind} at byte {begin}")
            if at + length > end:
                raise ValueError(f"field {field} at byte {begin} reaches beyond its message")
            inside = layout.get(field, {}) if kind == BYTES else {}
            self.structure += at - begin + (0 if inside or inside is None else length)
            self.fields += 1
            if self.structure > self.limits.structure_bytes or self.fields > self.limits.fields:
                most = f"{self.limits.structure_bytes} bytes or {self.limits.fields} fields"
                raise ValueError(f"more than {most} besides the values of tensors")
            if inside:
                self.walk(inside, at, at + length)
            at += length

    def varint(self, at: int) -> tuple[int, int]:
        value = 0
        for number in range(10):
            byte = self.data[at + number]
            value |= (byte & 127) << 7 * number
            if byte < 128:
                return value, at + number + 1
        raise ValueError(f"a varint of more than 10 bytes at byte {at}")


def _texts(model: Any) -> Iterator[Any]:
    """Every text that is read here or by who reads the model."""
    graph = model.graph
    yield from (model.producer_name, model.producer_version, *(row.domain for row in model.opset_import))
    for row in model.metadata_props:
        yield from (row.key, row.value)
    for value in (*graph.input, *graph.output):
        yield from (value.name, *(size.dim_param for size in value.type.tensor_type.shape.dim))
    for tensor in graph.initializer:
        yield tensor.name
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        for attribute in node.attribute:
            yield from (attribute.name, attribute.t.name)


def _damaged(path: Path, error: Exception) -> LavatubeError:
    return LavatubeError("damaged or foreign file", where=str(path), expected="an ONNX model", got=str(error))


def _check(model: Any, where: str, limits: OnnxLimits) -> None:
    graph = model.graph
    if model.functions or model.training_info:
        raise UnsupportedError("functions and training information", where=where, expected="a plain graph")
    if graph.sparse_initializer or graph.quantization_annotation:
        raise UnsupportedError("sparse or annotated tensors", where=where, expected="plain tensors")
    opsets = [each.version for each in model.opset_import if each.domain in OUR_DOMAINS]
    if len(opsets) != 1 or opsets[0] not in OPSETS:
        expected = f"{OPSETS.start}..{OPSETS.stop - 1} of the standard operators"
        raise UnsupportedError("operator set", where=where, expected=expected, got=str(opsets))
    for what, rows, most in (("nodes", graph.node, limits.nodes), ("tensors", graph.initializer, limits.tensors)):
        if len(rows) > most:
            raise LavatubeError(f"too many {what}", where=where, expected=f"at most {most}", got=str(len(rows)))
    for node in graph.node:
        place = f"{where}: node {node.name or node.op_type!r}"
        if node.domain not in OUR_DOMAINS:
            raise UnsupportedError("an operator outside the standard", where=place, got=f"{node.domain}.{node.op_type}")
        for attribute in node.attribute:
            if attribute.HasField("g") or attribute.graphs or attribute.ref_attr_name:
                raise UnsupportedError("a subgraph", where=place, got=attribute.name)
            if attribute.HasField("t"):
                _check_tensor(attribute.t, place, limits)
            if attribute.tensors or attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
                raise UnsupportedError("lists of tensors and sparse tensors", where=place, got=attribute.name)
    for tensor in graph.initializer:
        _check_tensor(tensor, where, limits)


def _check_tensor(tensor: Any, where: str, limits: OnnxLimits) -> None:
    if tensor.data_location or tensor.external_data or tensor.HasField("segment"):
        what, remedy = (
            f"tensor {tensor.name!r}: data outside this file",
            "save the model in one file, without external data",
        )
        raise LavatubeError(what, where=where, remedy=remedy)
    if len(tensor.dims) > limits.rank or any(size < 0 for size in tensor.dims):
        got = str(list(tensor.dims)[:12])
        raise LavatubeError(f"tensor {tensor.name!r}", where=where, expected=f"rank up to {limits.rank}", got=got)
