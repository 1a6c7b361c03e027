"""A stranger's ONNX file is bounded before it is read, and ends in a network or one clear error."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

onnx = pytest.importorskip("onnx", reason="needs the extra onnx")

from lavatube.convert.from_onnx import read_onnx  # noqa: E402
from lavatube.convert.safe_onnx import OnnxLimits, load_onnx  # noqa: E402
from lavatube.deploy.onnx_file.write import write_onnx  # noqa: E402
from lavatube.errors import LavatubeError  # noqa: E402
from lavatube.sim.onnx_run import load_step  # noqa: E402

FLOAT = onnx.TensorProto.FLOAT


def model():
    """conv -> norm -> relu -> pool -> flatten -> gemm."""
    rng = np.random.default_rng(0)
    constants = {
        "conv.weight": rng.normal(size=(3, 2, 3, 3)), "scale": np.ones(3), "shift": np.ones(3), "mean": np.zeros(3),
        "var": np.ones(3), "fc.weight": rng.normal(size=(4, 12)), "fc.bias": np.ones(4),
    }  # fmt: skip
    make = onnx.helper.make_node
    nodes = [
        make("Conv", ["x", "conv.weight"], ["a"], pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        make("BatchNormalization", ["a", "scale", "shift", "mean", "var"], ["b"]),
        make("Relu", ["b"], ["c"]),
        make("MaxPool", ["c"], ["d"], kernel_shape=[2, 2], strides=[2, 2]),
        make("Flatten", ["d"], ["e"]),
        make("Gemm", ["e", "fc.weight", "fc.bias"], ["y"], transB=1),
    ]
    graph = onnx.helper.make_graph(
        nodes, "graph",
        [onnx.helper.make_tensor_value_info("x", FLOAT, ["batch", 2, 4, 4])],
        [onnx.helper.make_tensor_value_info("y", FLOAT, ["batch", 4])],
        [onnx.numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )  # fmt: skip
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


def saved(tmp_path, change):
    value = model()
    change(value)
    (tmp_path / "m.onnx").write_bytes(value.SerializeToString())
    return tmp_path / "m.onnx"


def external(value):
    tensor = value.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def subgraph(value):
    value.graph.node[2].attribute.append(onnx.helper.make_attribute("body", onnx.GraphProto(name="g")))


def lying(value):
    value.graph.initializer[0].dims[:] = [1 << 40, 1 << 40]


CASES = {
    "data in another file": (external, "data outside this file"),
    "a subgraph": (subgraph, "a subgraph"),
    "a shape that its data do not fill": (lying, "tensor 'conv.weight'"),
    "a negative size": (lambda m: m.graph.initializer[0].dims.__setitem__(0, -3), "tensor 'conv.weight'"),
    "a rank of a hundred": (lambda m: m.graph.initializer[0].dims.extend([1] * 100), "rank up to 8"),
    "a function": (lambda m: m.functions.add(name="f"), "functions"),
    "a foreign operator": (lambda m: setattr(m.graph.node[2], "domain", "com.example"), "outside the standard"),
    "two tensors of one name": (lambda m: m.graph.initializer.add().CopyFrom(m.graph.initializer[0]), "one name"),
    "texts": (lambda m: setattr(m.graph.initializer[0], "data_type", onnx.TensorProto.STRING), "tensor 'conv.weight'"),
    "no type": (lambda m: setattr(m.graph.initializer[0], "data_type", 0), "tensor 'conv.weight'"),
    "no such type": (lambda m: setattr(m.graph.initializer[0], "data_type", 99), "tensor 'conv.weight'"),
    "a flood of nodes": (lambda m: m.graph.node.extend([onnx.NodeProto()] * 20_000), "too many nodes"),
    "no outputs": (lambda m: m.graph.ClearField("output"), "one of each"),
    "no node": (lambda m: m.graph.ClearField("node"), "not made from the input"),
    "an output made twice": (lambda m: m.graph.node[2].output.__setitem__(0, "b"), "a name of its own"),
}


@pytest.mark.parametrize("name", CASES)
def test_hostile_files_are_refused_with_the_rule(name, tmp_path):
    change, words = CASES[name]
    with pytest.raises(LavatubeError, match=words) as caught:
        read_onnx(saved(tmp_path, change))
    assert "m.onnx" in str(caught.value)


def test_a_flood_of_empty_messages_is_refused_before_protobuf_reads_it(tmp_path, monkeypatch):
    flood = b"\x0a\x00" * 3_000_000  # graph.node, empty: 6 MB that would be 3 million objects
    size = len(flood)
    varint = bytes([size & 127 | 128, size >> 7 & 127 | 128, size >> 14 & 127 | 128, size >> 21])
    (tmp_path / "m.onnx").write_bytes(b"\x3a" + varint + flood)
    monkeypatch.setattr(onnx.ModelProto, "FromString", None)
    with pytest.raises(LavatubeError, match="fields besides the values of tensors"):
        load_onnx(tmp_path / "m.onnx")


def test_values_of_tensors_do_not_count_as_structure(tmp_path):
    load_onnx(saved(tmp_path, lambda m: None), OnnxLimits(structure_bytes=900))
    with pytest.raises(LavatubeError, match="more than 300 bytes or"):
        load_onnx(saved(tmp_path, lambda m: None), OnnxLimits(structure_bytes=300))
    with pytest.raises(LavatubeError, match="too large"):
        load_onnx(saved(tmp_path, lambda m: None), OnnxLimits(file_bytes=500))


@pytest.mark.parametrize("content", [b"", b"\x00", b"not protobuf", b"\xff" * 100, b"\x08\x08"])
def test_what_is_not_an_onnx_file_is_one_error(content, tmp_path):
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(LavatubeError):
        read_onnx(tmp_path / "m.onnx")


WHOLE = model().SerializeToString()
EDITS = st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=8)


def opened(read, path):
    """What reading gives, or the text of its one error."""
    try:
        return read(path)
    except LavatubeError as error:
        return str(error)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=EDITS, cut=st.integers(0, 40))
def test_mutated_bytes_give_a_network_or_one_error(tmp_path, edits, cut):
    data = bytearray(WHOLE)
    for place, byte in edits:
        data[place] = byte
    (tmp_path / "m.onnx").write_bytes(data[: len(data) - (cut if cut > 30 else 0)])
    network = opened(read_onnx, tmp_path / "m.onnx")
    if isinstance(network, str):
        assert "m.onnx" in network
    else:
        with torch.no_grad():
            network(torch.zeros(1, *network.meta["input_shape"]))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_mutated_timestep_opens_or_is_one_error(tmp_path, small_program, data):
    path = tmp_path / "step.onnx"
    if not path.exists():
        write_onnx(small_program(0), path)
    content = bytearray(path.read_bytes())
    for place, byte in data.draw(
        st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=6)
    ):
        content[place] = byte
    (tmp_path / "mutated.onnx").write_bytes(content)
    step = opened(load_step, tmp_path / "mutated.onnx")
    assert not isinstance(step, str) or "mutated.onnx" in step
