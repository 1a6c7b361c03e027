"""A network read from an ONNX file computes what ONNX Runtime computes; what has no layer is refused by name."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn

onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
runtime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")

from lavatube.convert.from_onnx import read_onnx  # noqa: E402
from lavatube.errors import LavatubeError, UnsupportedError  # noqa: E402

FLOAT = onnx.TensorProto.FLOAT
IMAGE = ("batch", 4, 9, 8)


def node(kind, *inputs, out=None, **attributes):
    return onnx.helper.make_node(kind, list(inputs), [out or f"{kind}.out"], **attributes)


def write(path, nodes, constants=None, shape=IMAGE, opset=17, output=None):
    """A model from nodes in order; the last node's output is the model's."""
    graph = onnx.helper.make_graph(
        nodes,
        "graph",
        [onnx.helper.make_tensor_value_info("x", FLOAT, shape)],
        [onnx.helper.make_tensor_value_info(output or nodes[-1].output[0], FLOAT, None)],
        [onnx.numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    opsets = [onnx.helper.make_opsetid("", opset)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def both(path, batch=3, integers=False, seed=0):
    """(what torch computes, what ONNX Runtime computes)."""
    network = read_onnx(path)
    rng = np.random.default_rng(seed)
    shape = (batch, *network.meta["input_shape"])
    x = (rng.integers(-8, 9, shape) if integers else rng.normal(size=shape)).astype(np.float32)
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    (expected,) = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    with torch.no_grad():
        got = network(torch.from_numpy(x)).numpy()
    assert got.shape[1:] == tuple(network.meta["output_shape"])
    return got, expected


def whole(rng, *shape):
    """Small integers: every sum of products is exact in float32, in any order."""
    return rng.integers(-4, 5, shape).astype(np.float32)


RNG = np.random.default_rng(0)
W, B = whole(RNG, 6, 4, 3, 2), whole(RNG, 6)
NORM = {
    "scale": whole(RNG, 4), "shift": whole(RNG, 4), "mean": whole(RNG, 4), "var": np.array([1, 4, 16, 0.25], np.float32)
}  # fmt: skip
FLAT = node("Flatten", "x", out="flat")
# name: (nodes, constants, opset); integers all through, so the two must be equal, not close
EXACT = {
    "conv": ([node("Conv", "x", "w")], {"w": W}, 17),
    "conv with bias, strides, pads, dilations": (
        [node("Conv", "x", "w", "b", strides=[2, 1], pads=[2, 1, 2, 1], dilations=[2, 3], kernel_shape=[3, 2])],
        {"w": W, "b": B}, 17,
    ),
    "grouped conv": ([node("Conv", "x", "w", group=2)], {"w": whole(RNG, 6, 2, 3, 3)}, 17),
    "depthwise conv": ([node("Conv", "x", "w", group=4, pads=[1, 1, 1, 1])], {"w": whole(RNG, 8, 1, 3, 3)}, 17),
    "unevenly padded conv": ([node("Conv", "x", "w", "b", pads=[0, 1, 2, 0])], {"w": W, "b": B}, 17),
    "conv, same upper": ([node("Conv", "x", "w", auto_pad="SAME_UPPER", strides=[2, 2])], {"w": W}, 17),
    "conv, same lower": ([node("Conv", "x", "w", auto_pad="SAME_LOWER", strides=[1, 3])], {"w": W}, 17),
    "conv, valid": ([node("Conv", "x", "w", auto_pad="VALID")], {"w": W}, 17),
    "conv and a bias added": (
        [node("Conv", "x", "w", out="c"), node("Add", "c", "b")], {"w": W, "b": B.reshape(1, 6, 1, 1)}, 17,
    ),
    "gemm": ([FLAT, node("Gemm", "flat", "w", "b", transB=1)], {"w": whole(RNG, 5, 288), "b": whole(RNG, 5)}, 17),
    "gemm, not transposed, scaled": (
        [FLAT, node("Gemm", "flat", "w", "b", alpha=0.5, beta=2.0)],
        {"w": whole(RNG, 288, 5), "b": whole(RNG, 1, 5)}, 17,
    ),
    "gemm with one bias for all": (
        [FLAT, node("Gemm", "flat", "w", "b")], {"w": whole(RNG, 288, 5), "b": whole(RNG)}, 17,
    ),
    "gemm without bias": ([FLAT, node("Gemm", "flat", "w")], {"w": whole(RNG, 288, 5)}, 17),
    "matmul": ([FLAT, node("MatMul", "flat", "w")], {"w": whole(RNG, 288, 5)}, 17),
    "matmul and a bias added": (
        [FLAT, node("MatMul", "flat", "w", out="m"), node("Add", "b", "m")],
        {"w": whole(RNG, 288, 5), "b": whole(RNG, 5)}, 17,
    ),
    "batch norm": ([node("BatchNormalization", "x", *NORM, epsilon=0.0)], NORM, 17),
    "relu": ([node("Relu", "x")], {}, 17),
    "clip": ([node("Clip", "x", "low", "high")], {"low": np.float32(-2), "high": np.float32(6)}, 17),
    "clip to six": ([node("Clip", "x", "low", "high")], {"low": np.float32(0), "high": np.float32(6)}, 17),
    "clip from below": ([node("Clip", "x", "low")], {"low": np.float32(0)}, 17),
    "clip from above": ([node("Clip", "x", "", "high")], {"high": np.float32(3)}, 17),
    "clip, old form": ([node("Clip", "x", min=-1.0, max=5.0)], {}, 9),
    "max pool": ([node("MaxPool", "x", kernel_shape=[2, 3], strides=[2, 1], pads=[1, 1, 1, 1])], {}, 17),
    "dilated max pool": ([node("MaxPool", "x", kernel_shape=[2, 2], dilations=[2, 3])], {}, 17),
    "average pool": ([node("AveragePool", "x", kernel_shape=[2, 2], strides=[2, 2])], {}, 17),
    "average pool that counts its padding": (
        [node("AveragePool", "x", kernel_shape=[2, 4], pads=[1, 1, 1, 1], count_include_pad=1)], {}, 17,
    ),
    "flatten": ([FLAT], {}, 17),
    "reshape to flat": ([node("Reshape", "x", "shape")], {"shape": np.array([0, -1])}, 17),
    "reshape to a known size": ([node("Reshape", "x", "shape")], {"shape": np.array([-1, 288])}, 17),
    "constant node": (
        [onnx.helper.make_node("Constant", [], ["shape"], value_ints=[-1, 288]), node("Reshape", "x", "shape")], {}, 17,
    ),
    "sum": ([node("Relu", "x", out="r"), node("Add", "r", "x")], {}, 17),
    "sum with itself": ([node("Add", "x", "x")], {}, 17),
    "identity and dropout": (
        [node("Identity", "x", out="i"), node("Dropout", "i", out="d"), node("Relu", "d")], {}, 17,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EXACT)
def test_each_operator_equals_onnx_runtime_where_float32_is_exact(name, tmp_path):
    nodes, constants, opset = EXACT[name]
    got, expected = both(write(tmp_path / "m.onnx", nodes, constants, opset=opset), integers=True)
    np.testing.assert_array_equal(got, expected)


def test_average_pool_that_does_not_count_its_padding_is_close(tmp_path):
    pool = node("AveragePool", "x", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    got, expected = both(write(tmp_path / "m.onnx", [pool]))
    np.testing.assert_allclose(got, expected, atol=1e-6)  # divides by 4, 6 or 9


class Block(nn.Module):
    """What people bring: convolutions, norms, a skip, pools, and dense layers."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(4, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1, groups=2), nn.BatchNorm2d(8)
        self.pool, self.drop = nn.MaxPool2d(2), nn.Dropout()
        self.fc1, self.fc2 = nn.Linear(8 * 4 * 4, 16), nn.Linear(16, 5)
        for layer in (self.bn1, self.bn2):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.pool(torch.relu(self.bn2(self.conv2(x)) + x))
        return self.fc2(nn.functional.relu6(self.fc1(self.drop(x).flatten(1))))


def exported(path, folding):
    torch.manual_seed(0)
    network = Block().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter that needs no further package calls itself old
        torch.onnx.export(
            network, torch.zeros(1, 4, 9, 8), path, input_names=["x"], dynamic_axes={"x": {0: "batch"}}, dynamo=False,
            do_constant_folding=folding, training=torch.onnx.TrainingMode.EVAL if folding else
            torch.onnx.TrainingMode.PRESERVE,
        )  # fmt: skip
    return network


@pytest.mark.parametrize("folding", [False, True])
def test_what_torch_exports_comes_back_with_its_layers_and_values(folding, tmp_path):
    network = exported(tmp_path / "m.onnx", folding)
    got, expected = both(tmp_path / "m.onnx", batch=7)
    # two orders of summing some hundred float32: measured 3e-7 of the largest output
    assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()
    read = read_onnx(tmp_path / "m.onnx")
    kinds = [type(layer) for layer in read.children()]
    assert kinds.count(nn.Conv2d) == 2
    assert kinds.count(nn.Linear) == 2
    assert kinds.count(nn.BatchNorm2d) == (0 if folding else 2)
    np.testing.assert_array_equal(read.fc2.weight.detach().numpy(), network.fc2.weight.detach().numpy())
    assert not read.training


MATRIX = {"w": whole(RNG, 288, 5)}
REFUSED = {
    "Sigmoid": ([node("Sigmoid", "x")], {}, r"operators that no layer stands for.*got Sigmoid \(1\)"),
    "1-D conv": ([node("Conv", "x", "w")], {"w": whole(RNG, 6, 4, 3)}, "rank 4"),
    "weights that are computed": ([FLAT, node("Gemm", "flat", "flat")], {}, "a tensor first, then constants"),
    "channels that do not fit": ([node("Conv", "x", "w")], {"w": whole(RNG, 6, 3, 3, 3)}, "channels that fit"),
    "a kernel that is too large": ([node("Conv", "x", "w")], {"w": whole(RNG, 1, 4, 30, 3)}, "one inside the padded"),
    "sizes that do not fit": ([FLAT, node("Gemm", "flat", "w")], {"w": whole(RNG, 7, 5)}, "expected 288 inputs"),
    "transA": ([FLAT, node("Gemm", "flat", "w", transA=1)], MATRIX, "transA"),
    "ceil_mode": ([node("MaxPool", "x", kernel_shape=[2, 2], ceil_mode=1)], {}, "ceil_mode"),
    "uneven pool": ([node("MaxPool", "x", kernel_shape=[2, 2], pads=[0, 0, 1, 1])], {}, "padding of a pool"),
    "padding beyond memory": ([node("Conv", "x", "w", pads=[60000] * 4)], {"w": W}, "pads"),
    "two inputs of Relu": ([node("Relu", "x", "w")], {"w": W}, "Relu.*inputs, expected at most 1, got 2"),
    "four inputs of Gemm": ([FLAT, node("Gemm", "flat", "w", "", "w")], MATRIX, "Gemm.*inputs, expected at most 3"),
    "bounds of an old Clip": ([node("Clip", "x", "b")], {"b": np.float32(1)}, "Clip.*inputs, expected at most 1", 9),
    "two inputs of Identity": ([node("Identity", "x", "w")], {"w": W}, "inputs, expected at most 1, got 2"),
    "a negative stride": ([node("Conv", "x", "w", strides=[-1, 1])], {"w": W}, "strides"),
    "unknown attribute": ([node("Relu", "x", slope=0.5)], {}, "attributes, expected none, got slope"),
    "training norm": ([node("BatchNormalization", "x", *NORM, training_mode=1)], NORM, "training_mode"),
    "negative variance": (
        [node("BatchNormalization", "x", *NORM)], {**NORM, "var": np.full(4, -1, np.float32)}, "variance",
    ),
    "flatten of the batch": ([node("Flatten", "x", axis=0)], {}, "axis"),
    "reshape to an image": (
        [node("Reshape", "x", "s")], {"s": np.array([-1, 4, 72])}, "a Reshape that is not a Flatten",
    ),
    "reshape of one sample": ([node("Reshape", "x", "s")], {"s": np.array([1, -1])}, "not a Flatten"),
    "sum that broadcasts": (
        [node("GlobalAveragePool", "x", out="p"), node("Add", "x", "p")], {}, "two equal shapes",
    ),
    "sum with constants": ([node("Add", "x", "c")], {"c": np.float32(1)}, "a sum with constants"),
    "a bias for what others use too": (
        [node("Conv", "x", "w", out="c"), node("Add", "c", "b", out="d"), node("Add", "c", "d")],
        {"w": W, "b": B.reshape(6, 1, 1)}, "a sum with constants",
    ),
    "a cycle": (
        [node("Add", "x", "b", out="a"), node("Relu", "a", out="b")], {}, "no cycle, got b",
    ),
    "NaN": ([node("Conv", "x", "w")], {"w": W * np.nan}, "NaN or infinity"),
    "NaN as a constant": (
        [onnx.helper.make_node("Constant", [], ["l"], value_float=np.nan), node("Clip", "x", "l")], {}, "holds NaN",
    ),
    "a bias beyond float32": (
        [node("Cast", "d", out="b", to=1), FLAT, node("MatMul", "flat", "w", out="m"), node("Add", "m", "b")],
        {**MATRIX, "d": np.full(5, 1e300)}, "a sum with constants, expected finite numbers",
    ),
    "pads that auto_pad replaces": (
        [node("Conv", "x", "w", auto_pad="VALID", pads=[1, 1, 1, 1])], {"w": W}, "pads beside auto_pad",
    ),
    "an overflow": ([FLAT, node("Gemm", "flat", "w", alpha=3e38)], {"w": MATRIX["w"] + np.float32(1e9)}, "finite"),
    "float64": ([node("Conv", "x", "w")], {"w": W.astype(np.float64)}, "float32"),
    "empty clip": ([node("Clip", "x", "l", "h")], {"l": np.float32(1), "h": np.float32(1)}, "min below max"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_layer_can_be_is_refused_by_name(name, tmp_path):
    nodes, constants, words, *opset = REFUSED[name]
    with pytest.raises(LavatubeError, match=words):
        read_onnx(write(tmp_path / "m.onnx", nodes, constants, opset=opset[0] if opset else 17))


@pytest.mark.parametrize("shape", [("b", 4, "h", "w"), ("b",), ("b", 1 << 15, 1 << 14)])
def test_an_input_without_fixed_sizes_or_beyond_memory_is_refused(shape, tmp_path):
    with pytest.raises(UnsupportedError, match="fixed sizes"):
        read_onnx(write(tmp_path / "m.onnx", [node("Relu", "x")], shape=shape))


@pytest.mark.parametrize("opset", [6, 99])
def test_an_unknown_operator_set_is_refused_by_number(opset, tmp_path):
    with pytest.raises(UnsupportedError, match=rf"expected 7..23.*got \[{opset}\]"):
        read_onnx(write(tmp_path / "m.onnx", [node("Relu", "x")], opset=opset))


def test_a_fixed_batch_may_be_named_in_a_reshape(tmp_path):
    nodes, constants = [node("Reshape", "x", "s")], {"s": np.array([1, -1])}
    got, expected = both(write(tmp_path / "m.onnx", nodes, constants, shape=(1, 4, 9, 8)), batch=1)
    np.testing.assert_array_equal(got, expected)
    assert read_onnx(tmp_path / "m.onnx")(torch.zeros(3, 4, 9, 8)).shape == (3, 288)
