"""`lavatube encode`: new samples become events by the network's own encoder, or one line says why not."""

from __future__ import annotations

import json

import nir
import numpy as np
import pytest
import torch

from lavatube.cli.app import invoke
from lavatube.convert.export import export
from lavatube.convert.registers import FoldedLayer, FoldedNeuron, FoldedSynapse, choose_registers
from lavatube.deploy.lower import lower
from lavatube.deploy.lower_float import quantize_float
from lavatube.sim.encode import encode
from lavatube.train.extension_points import ENCODERS
from lavatube.train.quantized import QuantizedModule
from lavatube.train.recipe import parse_recipe
from lavatube.train.recipe_model import kind_of
from lavatube.trained import QuantizedNetwork, save_quantized

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (7, 1, 4, 4)).astype(np.uint8)


def run_folder(path, encoder, shape=(1, 4, 4), bits=8):
    """A run folder with quantized.safetensors and its program, of random weights."""
    size = int(np.prod(shape))
    geometry = {"kind": "dense", "in_shape": list(shape)}
    first = FoldedSynapse("layer1", "input", geometry, RNG.normal(size=(6, size)) / size / 2**bits)
    last = FoldedSynapse("layer2", "layer1", {"kind": "dense", "in_shape": [6]}, RNG.normal(size=(3, 6)))
    layers = [
        FoldedLayer("layer1", [6], (first,), np.full(6, 0.1), FoldedNeuron(2048)),
        FoldedLayer("layer2", [3], (last,), np.zeros(3), None),
    ]
    chosen = choose_registers(layers, message_bits=bits, weight_bits=8, headroom=0.8, num_steps=5)
    layout = {
        "num_steps": 5,
        "input": {"shape": list(shape), "message_bits": bits},
        "layers": [r.layout for r in chosen],
    }
    module = QuantizedModule(layout)
    for layer, values in zip(module.in_order(), chosen, strict=True):
        layer.inbound()[0].set_master(values.weights[0])
    recipe = {
        "name": "x", "num_steps": 5, "data": {"name": "digits"}, "encoder": {"kind": encoder},
        "network": {"kind": "chain", "layers": [{"dense": {"units": 6}}, {"dense": {"units": 10}}]},
        "neuron": {"decay": 0.5}, "optimizer": {"lr": 0.01, "epochs": 4, "batch_size": 32},
    }  # fmt: skip
    tensors = {name: value.detach().numpy() for name, value in module.state_dict().items()}
    full = parse_recipe(recipe, where="x").model_dump(mode="json")
    path.mkdir()
    save_quantized(QuantizedNetwork(full, module.layout, tensors, (), {}), path / "quantized.safetensors")
    export(path)
    lower(path / "model.nir", out=path / "program.safetensors")
    return path


def test_static_samples_are_the_events_themselves_and_run(tmp_path, capsys):
    folder = run_folder(tmp_path / "run", "direct")
    np.save(tmp_path / "x.npy", IMAGES)
    np.savez(tmp_path / "x.npz", input=IMAGES, label=np.arange(7) % 3)
    events = tmp_path / "e.npz"
    assert invoke(["encode", str(folder), "--input", str(tmp_path / "x.npy"), "--out", str(events)]) == 0
    assert "7 samples x 5 timesteps" in capsys.readouterr().out
    assert np.array_equal(np.load(events)["input"], IMAGES)
    assert invoke(["encode", str(folder), "--input", str(tmp_path / "x.npz"), "--out", str(events), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["samples"], said["steps"], said["shapes"]) == (7, 5, {"input": [5, 7, 1, 4, 4]})
    assert np.load(events)["label"].tolist() == [0, 1, 2, 0, 1, 2, 0]
    for backend in ("fast", "torch"):
        command = ["run", str(folder), "--input", str(events), "--out", str(tmp_path / f"{backend}.npz")]
        assert invoke([*command, "--backend", backend]) == 0
    fast, checkpoint = (np.load(tmp_path / f"{name}.npz") for name in ("fast", "torch"))
    assert np.array_equal(fast["spikes/layer1_lif"], checkpoint["spikes/layer1_lif"])


@pytest.mark.parametrize("kind", ["rate", "latency", "binary"])
def test_the_recipes_encoder_makes_the_events(tmp_path, kind):
    batch = encode(run_folder(tmp_path / "run", kind, bits=1), IMAGES, steps=6)
    encoder = next(cls for cls in ENCODERS if kind_of(cls) == kind)()
    wanted = encoder(torch.from_numpy(IMAGES), 6, torch.Generator().manual_seed(0), is_sequence=False)
    assert np.array_equal(batch.events, np.broadcast_to(wanted.numpy(), (6, *IMAGES.shape)))
    again = encode(tmp_path / "run", IMAGES, steps=6)
    assert np.array_equal(batch.events, again.events)


def test_timesteps_of_ones_own_cut_sequences_and_are_written_for_static_samples(tmp_path, capsys):
    folder, events = run_folder(tmp_path / "run", "direct"), tmp_path / "e.npz"
    np.save(tmp_path / "x.npy", IMAGES)
    command = ["encode", str(folder), "--input", str(tmp_path / "x.npy"), "--out", str(events), "--steps", "7"]
    assert invoke(command) == 0
    assert np.load(events)["input"].shape == (7, *IMAGES.shape)
    assert invoke(["run", str(folder), "--input", str(events), "--out", str(tmp_path / "t.npz")]) == 0, capsys
    delta = run_folder(tmp_path / "delta", "delta", shape=(2, 4, 4), bits=1)
    frames = RNG.integers(0, 256, (5, 2, 1, 4, 4))
    assert np.array_equal(encode(delta, frames, steps=3).events, encode(delta, frames).events[:3])


def test_sequences_go_through_send_on_delta(tmp_path):
    folder = run_folder(tmp_path / "run", "delta", shape=(2, 4, 4), bits=1)
    frames = np.zeros((5, 2, 1, 4, 4), np.int64)
    frames[2:, 0] = 40  # in one jump, which is two thresholds of 16 and a rest
    found = encode(folder, frames).events
    assert found.shape == (5, 2, 2, 4, 4)
    assert found[:, 0, 0, 0, 0].tolist() == [0, 0, 1, 1, 0]
    assert not found[:, 1].any()
    assert not found[:, :, 1].any()


def test_images_are_read_as_they_are(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="pillow")
    folder, pictures = run_folder(tmp_path / "run", "direct"), tmp_path / "pictures"
    pictures.mkdir()
    for number in (1, 0):
        image.fromarray(IMAGES[number, 0]).save(pictures / f"{number}.png")
    assert np.array_equal(encode(folder, pictures).events[0], IMAGES[:2])
    assert np.array_equal(encode(folder, pictures / "1.png").events[0], IMAGES[1:2])


def test_a_float_file_takes_numbers_in_its_own_units(tmp_path, capsys):
    full = np.ones(3)
    nodes = {"input": nir.Input(np.array([4])), "w": nir.Linear(RNG.normal(size=(3, 4))),
             "n": nir.IF(full, full, full * 0), "o": nir.Output(np.array([3]))}  # fmt: skip
    graph = nir.NIRGraph(nodes, [("input", "w"), ("w", "n"), ("n", "o")], type_check=False)
    nir.write(str(tmp_path / "f.nir"), graph)
    shown = np.round(RNG.normal(size=(6, 3, 4)), 1)
    program = quantize_float(tmp_path / "f.nir", out=tmp_path / "q", contract="norse,dt=1", data={"input": shown})
    x = shown[:, 1:]
    np.save(tmp_path / "x.npy", x)
    command = ["encode", str(tmp_path / "q"), "--input", str(tmp_path / "x.npy"), "--out", str(tmp_path / "e.npz")]
    assert invoke(command) == 0
    made = np.load(tmp_path / "e.npz")
    value = sum(made[f"input/{name}"] * program.scales[name] for name in ("input", "input.neg"))
    np.testing.assert_allclose(value, x, atol=1e-9)
    assert encode(tmp_path / "q", x[0]).num_steps == program.num_steps
    np.save(tmp_path / "x.npy", x * 100)
    capsys.readouterr()
    assert invoke(command) == 2
    assert "input values are outside the program's encoding" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (IMAGES + 0.5, "input holds fractions"), (IMAGES.astype(int) * 2, "expected integers 0..255 (8 bits)"),
        (np.full((2, 1, 4, 4), np.nan), "NaN"), (IMAGES[:, :, :3], "expected [T, B, 1, 4, 4] or [B, 1, 4, 4]"),
        (IMAGES[:0], "input is empty"), (IMAGES.astype(str), "input dtype, expected integers"),
        (np.zeros((5, 2, 1, 4, 4), int), "encoder latency, expected static samples [B, 1, 4, 4], got (5, 2, 1, 4, 4)"),
        (None, "damaged or foreign file"),
    ],
    ids=["fractions", "range", "nan", "shape", "empty", "text", "sequence", "damaged"],
)  # fmt: skip
def test_wrong_samples_are_one_line_and_no_file(tmp_path, capsys, value, words):
    folder = run_folder(tmp_path / "run", "latency", bits=1)
    np.save(tmp_path / "x.npy", IMAGES if value is None else value)
    if value is None:
        (tmp_path / "x.npy").write_bytes(b"\x93NUMPY")
    out = tmp_path / "e.npz"
    capsys.readouterr()
    assert invoke(["encode", str(folder), "--input", str(tmp_path / "x.npy"), "--out", str(out)]) == 2
    (line,) = (row for row in capsys.readouterr().err.splitlines() if row.startswith("error"))
    assert words in line
    assert "x.npy" in line
    assert not out.exists()


def test_wrong_places_are_one_line(tmp_path, capsys):
    np.save(tmp_path / "x.npy", IMAGES)
    for source, out, words in [
        (tmp_path / "x.npy", "e.npz", "no encoder here"), (tmp_path, "e.npz", "quantized.safetensors: no such file"),
        (tmp_path, "e.npy", "--out, expected a file X.npz, got .npy"),
    ]:  # fmt: skip
        assert invoke(["encode", str(source), "--input", str(tmp_path / "x.npy"), "--out", str(tmp_path / out)]) == 2
        assert words in capsys.readouterr().err
