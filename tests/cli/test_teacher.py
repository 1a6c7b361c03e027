"""lavatube train with a teacher from an ONNX file, and from the folder of another run."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import yaml

from lavatube.cli.app import invoke

RECIPE = {
    "name": "pupil",
    "num_steps": 2,
    "data": {"name": "digits"},
    "network": {"kind": "chain", "layers": [{"dense": {"units": 12}}, {"dense": {"units": 10}}]},
    "neuron": {"decay": 0.5},
    "objective": ["cross_entropy", {"kind": "kdsnn", "feature_weight": 0}],
    "optimizer": {"lr": 0.02, "epochs": 1, "batch_size": 128},
}


def write_recipe(**changes: object) -> list[str]:
    Path("recipe.yaml").write_text(yaml.safe_dump({**RECIPE, **changes}), encoding="utf-8")
    return ["train", "recipe.yaml", "--json", "--out", "pupil"]


def test_an_onnx_file_teaches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
    monkeypatch.chdir(tmp_path)
    info, number = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    nodes = [
        onnx.helper.make_node("Flatten", ["x"], ["flat"]),
        onnx.helper.make_node("Gemm", ["flat", "fc.weight"], ["y"], transB=1),
    ]
    weight = onnx.numpy_helper.from_array(np.ones((10, 64), np.float32), "fc.weight")
    graph = onnx.helper.make_graph(nodes, "g", [info("x", number, ["b", 1, 8, 8])], [info("y", number, None)], [weight])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "ann.onnx")
    command = write_recipe(teacher={"kind": "onnx", "file": "ann.onnx", "mean": [0.5], "std": [0.5]})
    assert invoke(command) == 0
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    zeros = 10.0  # of the digits of the test split, in %: equal logits name class 0
    assert metrics["teacher_test_accuracy"] == pytest.approx(zeros, abs=1)
    assert len(metrics["teacher_sha256"]) == 64


def test_a_teachers_file_or_folder_that_is_not_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for teacher, words in (
        ({"kind": "onnx", "file": "none.onnx"}, "none.onnx" if find_spec("onnx") else "lavatube[onnx]"),
        ({"kind": "run", "folder": "runs/digits"}, "lavatube train digits --out runs/digits"),
    ):
        assert invoke(write_recipe(teacher=teacher)) == 2
        said = capsys.readouterr().err.splitlines()
        assert [line for line in said if line.startswith("error: ")] == said[-1:]
        assert words in said[-1]
        assert not (tmp_path / "pupil" / "config.json").exists()


def test_what_fine_tuning_learns_from_is_chosen_by_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke(["quantize", "run", "--teach", "floats"]) == 2
    assert "teach, expected labels or float, got floats" in capsys.readouterr().err


def test_a_recipe_says_which_key_of_its_teacher_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke(write_recipe(teacher={"kind": "run", "path": "x"})) == 2
    assert "unknown key teacher.path, expected one of: kind, folder" in capsys.readouterr().err
    assert invoke(write_recipe(teacher={"kind": "onnx", "file": "f", "std": [0]})) == 2
    assert "bad value of teacher.std.0, expected greater than 0, got 0" in capsys.readouterr().err
