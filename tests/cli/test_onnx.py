"""export --onnx, run --backend onnx, parity --against onnx and inspect FILE.onnx, as a user types them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lavatube.cli.app import invoke
from lavatube.program_file import save_program

onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
pytest.importorskip("onnxruntime", reason="needs the extra onnx")


@pytest.fixture
def folder(tmp_path, small_program, monkeypatch):
    save_program(small_program(1), tmp_path / "program.safetensors")
    np.savez(tmp_path / "x.npz", input=np.random.default_rng(0).integers(0, 256, (3, 2, 6, 5)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_program_goes_out_runs_and_agrees(folder, capsys):
    assert invoke("export program.safetensors --onnx step.onnx".split()) == 0
    assert "wrote step.onnx: one timestep, 6 states" in capsys.readouterr().out
    assert invoke("run step.onnx --input x.npz --backend onnx --out a.npz --record v,u".split()) == 0
    assert invoke("run program.safetensors --input x.npz --backend reference --out b.npz --record v,u".split()) == 0
    assert invoke("parity a.npz b.npz".split()) == 0
    capsys.readouterr()
    assert (
        invoke("parity program.safetensors --data x.npz --against onnx --record v,u --out p.json --json".split()) == 0
    )
    (row,) = json.loads(capsys.readouterr().out)["engines"]
    assert (row["engine"], row["counts_equal"]) == ("onnx", True)
    assert row["independence"] == "second implementation, executed by ONNX Runtime"
    assert "onnxruntime" in row["meta"]["versions"]


def test_a_run_folder_and_json(folder, capsys):
    assert invoke(["export", str(folder), "--onnx", "step.onnx", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["description"]
    assert [row["name"] for row in said["spikes"]] == ["spikes/layer1_lif", "spikes/layer2_lif"]
    assert invoke(["inspect", "step.onnx", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["program"] == said["program_sha256"]
    assert set(shown["states"]) == {row["name"] for row in said["states"]}


def network(*kinds):
    """relu or whatever else, one after another, behind a 3 x 3 convolution."""
    info = onnx.helper.make_tensor_value_info
    nodes = [onnx.helper.make_node("Conv", ["x", "stem.weight"], ["v0"])]
    nodes += [onnx.helper.make_node(kind, [f"v{n}"], [f"v{n + 1}"], f"the_{kind}") for n, kind in enumerate(kinds)]
    weight = onnx.numpy_helper.from_array(np.ones((2, 1, 3, 3), np.float32), "stem.weight")
    x, y = (
        info(name, onnx.TensorProto.FLOAT, shape) for name, shape in (("x", ["b", 1, 6, 6]), (f"v{len(kinds)}", None))
    )
    graph = onnx.helper.make_graph(nodes, "g", [x], [y], [weight])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


def test_inspect_shows_layers_shapes_and_parameters_of_a_network(tmp_path, capsys):
    onnx.save(network("Relu", "GlobalAveragePool"), tmp_path / "m.onnx")
    assert invoke(["inspect", str(tmp_path / "m.onnx")]) == 0
    shown = capsys.readouterr().out
    assert "input: [batch, 1, 6, 6]" in shown
    assert "stem Conv2d(1, 2, kernel_size=(3, 3), stride=(1, 1), bias=False), output [2, 4, 4], parameters 18" in shown
    assert "refused: none" in shown


def test_a_foreign_file_needs_no_digest_of_ours(tmp_path, capsys):
    pytest.importorskip("torch", reason="read_onnx makes torch modules")
    from lavatube.convert.from_onnx import read_onnx

    model = network("Relu")
    row = model.metadata_props.add()
    row.key, row.value = "author", "somebody else"
    onnx.save(model, tmp_path / "m.onnx")
    assert read_onnx(tmp_path / "m.onnx").meta["input_shape"] == (1, 6, 6)
    assert invoke(["inspect", str(tmp_path / "m.onnx")]) == 0
    assert "refused: none" in capsys.readouterr().out


def test_a_step_without_its_digest_is_to_be_exported_again(folder, capsys):
    assert invoke("export program.safetensors --onnx step.onnx".split()) == 0
    model = onnx.load("step.onnx")
    (row,) = [row for row in model.metadata_props if row.key == "lavatube_sha256"]
    model.metadata_props.remove(row)
    onnx.save(model, "old.onnx")
    for command in ("inspect old.onnx", "run old.onnx --input x.npz --backend onnx"):
        assert invoke(command.split()) == 2
        assert "export the program again" in capsys.readouterr().err


def test_inspect_lists_everything_that_is_refused(tmp_path, capsys):
    onnx.save(network("Sigmoid", "Relu", "Tanh"), tmp_path / "m.onnx")
    assert invoke(["inspect", str(tmp_path / "m.onnx"), "--json"]) == 0
    refused = json.loads(capsys.readouterr().out)["refused"]
    assert [line.split(":")[0] for line in refused] == ["the_Sigmoid (Sigmoid)", "the_Tanh (Tanh)"]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("inspect text.onnx", "damaged or foreign file"),
        ("run text.onnx --input x.npz --backend onnx", "damaged or foreign file"),
        ("run m.onnx --input x.npz --backend onnx", "not one timestep of a spiking network"),
        ("run missing.onnx --input x.npz --backend onnx", "no such file"),
        ("export program.safetensors --onnx a.onnx --nir b.nir", "--nir and --onnx"),
        ("export missing.safetensors --onnx a.onnx", "no such file"),
        ("export program.safetensors --onnx /proc/x/a.onnx", "/proc/x"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(folder, capsys, command, words):
    (folder / "text.onnx").write_text("not protobuf")
    onnx.save(network("Relu"), folder / "m.onnx")
    before = {path.name for path in folder.rglob("*")}
    assert invoke(command.split()) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert words in line
    assert {path.name for path in folder.rglob("*")} == before


@pytest.mark.parametrize(
    ("path", "new", "words"),
    [
        (("program_sha256",), "zz", "program_sha256"),
        (("num_steps",), 10**9, "num_steps"),
        (("num_steps",), 0, "num_steps"),
        (("input", "message_bits"), 99, "message_bits"),
        (("input", "message_bits"), 0, "message_bits"),
        (("spikes", 0, "layer"), "other", "names spikes/<layer>"),
        (("spikes", 0, "event_range"), [0, 0], "the description is not the one that was exported"),
        (("input", "message_bits"), 9, "the description is not the one that was exported"),
        (("num_steps",), 7, "the description is not the one that was exported"),
        (("readout", "name"), "t2", "no state"),
    ],
)
def test_an_edited_description_of_a_step_is_refused(folder, capsys, path, new, words):
    assert invoke("export program.safetensors --onnx step.onnx".split()) == 0
    model = onnx.load("step.onnx")
    (row,) = [row for row in model.metadata_props if row.key == "lavatube"]
    value = json.loads(row.value)
    at = value
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = new
    row.value = json.dumps(value)
    onnx.save(model, "edited.onnx")
    assert invoke("run edited.onnx --input x.npz --backend onnx".split()) == 2
    assert words in capsys.readouterr().err
