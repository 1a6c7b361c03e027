"""An artificial network from an ONNX file becomes a run folder of its spiking twin; what is no chain is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

onnx = pytest.importorskip("onnx", reason="needs the extra onnx")

from lavatube.cli.app import invoke  # noqa: E402
from lavatube.convert.ann_chain import ann_chain  # noqa: E402
from lavatube.convert.export import export  # noqa: E402
from lavatube.convert.from_ann import convert_onnx  # noqa: E402
from lavatube.convert.from_onnx import read_onnx  # noqa: E402
from lavatube.convert.quantize import quantize  # noqa: E402
from lavatube.deploy.lower import lower  # noqa: E402
from lavatube.errors import LavatubeError, UnsupportedError  # noqa: E402
from lavatube.sim.parity import parity  # noqa: E402
from lavatube.train.datasets import catalog  # noqa: E402
from lavatube.train.datasets.dataset import Dataset, Split  # noqa: E402
from lavatube.train.datasets.digits import load_digits  # noqa: E402
from lavatube.train.networks.build import load_network  # noqa: E402
from lavatube.trained import load_trained  # noqa: E402

CONVS = [
    nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.AvgPool2d(2),
    nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
]  # fmt: skip


def ann(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers).eval()


def to_onnx(model: nn.Module, path: Path, shape: Sequence[int] = (1, 8, 8)) -> Path:
    """By hand, as torch's own exporters need packages that the tests do not have."""
    nodes, constants, last = [], {}, "x"

    def add(kind: str, *values: torch.Tensor | None, **attributes: object) -> None:
        nonlocal last
        names = []
        for value in values:
            if value is not None:
                names.append(f"c{len(constants)}")
                constants[names[-1]] = value.detach().numpy()
        out = f"t{len(nodes)}"
        nodes.append(onnx.helper.make_node(kind, [last, *names], [out], **attributes))
        last = out

    for layer in model.children():
        if isinstance(layer, nn.Conv2d):
            pads = [*layer.padding, *layer.padding]
            add("Conv", layer.weight, layer.bias, strides=list(layer.stride), pads=pads, group=layer.groups)
        elif isinstance(layer, nn.Linear):
            add("Gemm", layer.weight, layer.bias, transB=1)
        elif isinstance(layer, nn.BatchNorm2d):
            add("BatchNormalization", layer.weight, layer.bias, layer.running_mean, layer.running_var)
        elif isinstance(layer, nn.AvgPool2d | nn.MaxPool2d):
            kind = "AveragePool" if isinstance(layer, nn.AvgPool2d) else "MaxPool"
            add(kind, kernel_shape=[layer.kernel_size] * 2, strides=[layer.stride] * 2)
        elif isinstance(layer, nn.ReLU6):
            add("Clip", torch.tensor(0.0), torch.tensor(6.0))
        else:
            add({"ReLU": "Relu", "AdaptiveAvgPool2d": "GlobalAveragePool"}.get(type(layer).__name__, "Flatten"))
    kind = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        nodes, "g", [onnx.helper.make_tensor_value_info("x", kind, ("batch", *shape))],
        [onnx.helper.make_tensor_value_info(last, kind, None)],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, path)
    return path


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A data set `few`: digits, 300 to train on, 40 for validation and test."""
    digits = load_digits(None, 1)
    parts = [
        Split(split.samples[:size].copy(), split.label[:size].copy())
        for split, size in ((digits.train, 300), (digits.validation, 40), (digits.test, 40))
    ]
    monkeypatch.setitem(catalog.DATASETS, "few", lambda *_: Dataset("few", 10, False, *parts))  # type: ignore[arg-type]


@pytest.fixture
def trained_ann() -> nn.Sequential:
    """On 300 digits, for a second."""
    torch.manual_seed(0)
    model = nn.Sequential(*CONVS, nn.Linear(8, 10)).train()
    split = load_digits(None, 1).train
    x, y = torch.tensor(split.samples[:300]).float() / 255, torch.tensor(split.label[:300])
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(60):
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@pytest.mark.slow
def test_a_converted_network_comes_near_the_artificial_one_as_t_grows_and_deploys(
    trained_ann: nn.Sequential, tmp_path: Path
) -> None:
    file = to_onnx(trained_ann, tmp_path / "ann.onnx")
    pixels = torch.tensor(load_digits(None, 1).test.samples[:100])
    with torch.no_grad():
        wanted = trained_ann(pixels.float() / 255)
    errors = {}
    for num_steps in (2, 8, 32):
        made = convert_onnx(file, data="few", num_steps=num_steps, out=tmp_path / str(num_steps))
        network = load_network(made, (1, 8, 8), 10).eval()
        with torch.no_grad():
            logits = network((pixels.float() / 255).expand(num_steps, *pixels.shape)).logits
        factor = (logits * wanted).sum() / (logits**2).sum()
        errors[num_steps] = float((factor * logits - wanted).norm() / wanted.norm())
    assert made.metrics["ann_test_accuracy"] > 60
    assert errors[2] > 1.5 * errors[8] > 1.5 * 1.5 * errors[32], errors
    assert load_trained(tmp_path / "32").metrics["thresholds"] == made.metrics["thresholds"]
    quantize(tmp_path / "2", epochs=0)
    export(tmp_path / "2")
    program = lower(tmp_path / "2" / "model.nir", out=tmp_path / "2" / "program.safetensors")
    assert {"soft reset", "initial potential", "signed spikes"} <= program.needs()
    assert parity(tmp_path / "2", against=["torch", "fast"], samples=8, record=["u", "v"]).equal


def test_thresholds_are_what_activations_reach_and_no_more_than_a_clip(tmp_path: Path) -> None:
    """One path of ones: the activation is the pixel (240 of 255 at most) times 9, cut at 6 where there is a Clip."""
    made = {}
    for name, layer in (("relu", nn.ReLU()), ("clip", nn.ReLU6())):
        model = ann(nn.Conv2d(1, 1, 1), layer, nn.Flatten(), nn.Linear(64, 10))
        with torch.no_grad():
            model[0].weight.fill_(9)  # type: ignore[operator, union-attr]
            model[0].bias.fill_(0)  # type: ignore[operator, union-attr]
        file = to_onnx(model, tmp_path / f"{name}.onnx")
        made[name] = convert_onnx(file, data="few", percentile=100).metrics["thresholds"]
    assert made == {"relu": [pytest.approx(9 * 240 / 255)], "clip": [6.0]}


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ((nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3), nn.Flatten(), nn.Linear(32, 10)), "nothing rectified between"),
        ((nn.Conv2d(1, 2, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32, 10)), "MaxPool2d"),
        ((nn.Conv2d(1, 2, 1), nn.AvgPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(32, 10)), "AvgPool2d"),
        ((nn.Conv2d(1, 2, 1), nn.ReLU(), nn.AvgPool2d(3), nn.Flatten(), nn.Linear(8, 10)), "an average pool"),
        ((nn.Conv2d(1, 2, (1, 3)), nn.ReLU(), nn.Flatten(), nn.Linear(96, 10)), "a convolution"),
        ((nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(128, 10), nn.ReLU()), "a last layer"),
        ((nn.ReLU(), nn.Flatten(), nn.Linear(64, 10)), "ReLU"),
    ],
    ids=str,
)
def test_what_is_no_chain_is_refused_by_name(tmp_path: Path, layers: Sequence[nn.Module], words: str) -> None:
    model = read_onnx(to_onnx(ann(*layers), tmp_path / "ann.onnx"))
    with pytest.raises(UnsupportedError, match=words):
        ann_chain(model, where="ann.onnx")


def test_bad_input_is_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loud = ann(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(128, 10))
    with torch.no_grad():
        loud[0].bias.fill_(1)  # type: ignore[operator, union-attr]
        loud[0].weight.fill_(1)  # type: ignore[operator, union-attr]
    file = to_onnx(loud, tmp_path / "a.onnx")
    out = tmp_path / "run"
    with pytest.raises(LavatubeError, match="percentile"):
        convert_onnx(file, data="few", out=out, percentile=0)
    wide = to_onnx(ann(nn.Flatten(), nn.Linear(81, 10)), tmp_path / "w.onnx", (1, 9, 9))
    with pytest.raises(LavatubeError, match="a network for other samples"):
        convert_onnx(wide, data="few", out=out)
    black = Split(np.zeros((4, 1, 8, 8), np.uint8), np.zeros(4, np.int64))
    monkeypatch.setitem(catalog.DATASETS, "black", lambda *_: Dataset("black", 10, False, black, black, black))  # type: ignore[arg-type]
    quiet = ann(nn.Conv2d(1, 2, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(128, 10))
    with pytest.raises(LavatubeError, match="silent on the training samples"):
        convert_onnx(to_onnx(quiet, tmp_path / "q.onnx"), data="black", out=out)
    assert not (out / "config.json").exists()
    convert_onnx(file, data="few", out=out)
    with pytest.raises(LavatubeError, match="finished"):
        convert_onnx(file, data="few", out=out)


def test_the_command_converts_a_file_and_quantizes_its_twin(tmp_path: Path) -> None:
    file = to_onnx(ann(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 10)), tmp_path / "a.onnx")
    options = ["--data", "few", "--num-steps", "3", "--epochs", "0", "--out", str(tmp_path / "run")]
    assert invoke(["quantize", str(file), *options]) == 0
    twin = load_trained(tmp_path / "run").recipe
    assert (twin["num_steps"], twin["neuron"]["output"]) == (3, "signed")
    assert (tmp_path / "run" / "quantized.safetensors").exists()
