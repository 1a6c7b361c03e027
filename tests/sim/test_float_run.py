"""`lavatube run FILE.nir --backend float`: a file, a contract, real inputs, a trace that says all of it."""

from __future__ import annotations

import json
from pathlib import Path

import nir
import numpy as np
import pytest

from lavatube.cli.app import invoke as main
from lavatube.contract_presets import PRESETS, preset
from lavatube.convert.float_graph.contract_metadata import CONTRACT_KEY, stated_contract, write_contract
from lavatube.deploy.lower_float import lower_float
from lavatube.errors import LavatubeError
from lavatube.float_trace import load_float_trace
from lavatube.sim.float_run import run_float


def small_graph() -> nir.NIRGraph:
    full = np.ones(2)
    synapse = nir.Affine(np.array([[4.0, 0, 2], [0, 8, 0]]), full * 0.1)
    neuron = nir.LIF(tau=full * 4e-4, r=full * 4, v_leak=full * 0, v_threshold=full)
    nodes = {"input": nir.Input(np.array([3])), "a": synapse, "n": neuron, "output": nir.Output(np.array([2]))}
    return nir.NIRGraph(nodes, [("input", "a"), ("a", "n"), ("n", "output")])


@pytest.fixture
def files(tmp_path):
    """(NIR file, X.npz with fractions, folder)"""
    nir.write(str(tmp_path / "net.nir"), small_graph())
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "x.npz", input=rng.random((30, 4, 3)), length=np.array([30, 20, 10, 0]))
    return tmp_path / "net.nir", tmp_path / "x.npz", tmp_path


def test_a_run_leaves_spikes_outputs_and_every_assumption(files, capsys):
    path, inputs, folder = files
    arguments = [
        "run",
        path,
        "--contract",
        "norse",
        "--dt",
        "1e-4",
        "--input",
        inputs,
        "--backend",
        "float",
        "--record",
        "v",
    ]
    assert main([*map(str, arguments), "--out", str(folder / "trace.npz")]) == 0
    assert "norse with dt 0.0001" in capsys.readouterr().out
    trace = load_float_trace(folder / "trace.npz")
    assert trace.spikes["n"].dtype == np.uint8
    assert trace.spikes["n"][:, 0].any()
    assert not trace.spikes["n"][10:, 2].any()
    assert not trace.v["n"][:, 3].any()
    assert np.array_equal(trace.output["output"], trace.spikes["n"])
    assert np.array_equal(trace.readout["output"], trace.spikes["n"].sum(axis=0))
    assert trace.meta["contract"] == preset("norse").with_overrides(dt=1e-4).to_json()
    assert len(trace.meta["sha256"]) == 64
    assert "LIF r is not used" in json.dumps(trace.meta["assumptions"])
    with np.load(folder / "trace.npz") as opened:
        assert opened["readout/output"].dtype == np.float64


def test_a_file_that_states_no_contract_needs_one(files):
    path, inputs, _ = files
    with pytest.raises(LavatubeError, match="does not say how it is to be stepped in time") as error:
        run_float(path, inputs)
    assert all(name in str(error.value) for name in PRESETS)


def test_a_contract_rides_in_the_metadata_and_another_is_noted(files):
    _, inputs, folder = files
    graph = small_graph()
    write_contract(graph, preset("snntorch").with_overrides(comparator=">="))
    nir.write(str(folder / "stated.nir"), graph)
    stated = run_float(folder / "stated.nir", inputs)
    assert stated.meta["contract"]["comparator"] == ">="
    other = run_float(folder / "stated.nir", inputs, contract="spikingjelly")
    assert other.meta["contract"]["name"] == "spikingjelly"
    assert "the file states snntorch, spikingjelly was asked for" in [r["why"] for r in other.meta["assumptions"]]


def test_a_file_is_read_once(files, monkeypatch):
    from lavatube.convert.float_graph import raw, read

    _, inputs, folder = files
    graph = small_graph()
    write_contract(graph, preset("snntorch"))
    nir.write(str(folder / "stated.nir"), graph)
    opened = []
    once = raw.opened_hdf5
    monkeypatch.setattr(raw, "opened_hdf5", lambda *given, **named: opened.append(given) or once(*given, **named))
    run_float(folder / "stated.nir", inputs)
    assert len(opened) == 1
    stated = run_float(read.read_float_graph(folder / "stated.nir"), inputs)  # read before, it still states its own
    assert stated.meta["contract"] == preset("snntorch").to_json()


def test_a_timestep_said_twice_is_refused_by_all_who_take_one(files):
    path, inputs, _ = files
    for takes_dt, given in ((run_float, {"inputs": inputs}), (lower_float, {})):
        with pytest.raises(LavatubeError, match=r"dt given twice, expected in --contract or as --dt"):
            takes_dt(path, contract="norse, dt=1e-4", dt=1e-4, **given)


def test_the_page_says_how_a_contract_gets_into_a_file():
    text = (Path(__file__).parents[2] / "docs" / "contract.md").read_text(encoding="utf-8")
    assert f"{write_contract.__module__}.{write_contract.__name__}" in text.replace("`", "")


def test_a_damaged_contract_in_the_metadata_is_refused():
    for text, error in (
        ("{", "malformed contract"),
        ('{"dt": 1}', "missing or unknown fields"),
        ("[]", "unknown fields"),
    ):
        with pytest.raises(LavatubeError, match=error):
            stated_contract({CONTRACT_KEY: text}, where="net.nir")
    assert stated_contract({"author": "me"}, where="net.nir") is None


def test_a_static_input_is_presented_for_as_many_steps_as_asked(files):
    path, _, _ = files
    static = np.full((2, 3), 0.5)
    trace = run_float(path, static, contract="norse,dt=1e-4", steps=7)
    assert trace.output["output"].shape == (7, 2, 2)
    with pytest.raises(LavatubeError, match="static, expected --steps"):
        run_float(path, static, contract="norse,dt=1e-4")


@pytest.mark.parametrize(
    ("arrays", "error"),
    [
        ({"input": np.float64(1)}, r"input input, expected numbers \[T, B, 3\] or \[B, 3\], got float64 \(\)"),
        ({"input": np.zeros(3)}, r"input input, expected numbers \[T, B, 3\] or \[B, 3\]"),
        ({"input": np.zeros((4, 1, 3)), "length": np.array(["3"])}, r"length, expected \[B\] integers, got <U1"),
        ({"input": np.zeros((4, 1, 3)), "length": np.int64(3)}, r"length, expected \[B\] integers, got int64 \(\)"),
        ({"input": np.zeros((4, 1, 3)), "length": np.array([9])}, r"length, expected .*0..4, got 9"),
        ({"input": np.zeros((4, 1, 3)), "lenght": np.array([3])}, "unknown keys, expected input, length, label, got"),
        ({"input": np.zeros((4, 1, 3)), "input/zz": np.zeros((4, 1, 3))}, "unknown keys.*got input/zz"),
        ({"input/zz": np.zeros((4, 1, 3))}, "unknown keys, expected input/input"),
        ({"input": np.full((4, 1, 3), -1e308)}, "input input, expected at most 3.40282e.38, as float32 holds, got 1e"),
    ],
)
def test_inputs_that_do_not_fit_the_graph_or_its_precision_are_refused(files, arrays, error):
    path, _, folder = files
    np.savez(folder / "x.npz", **arrays)
    with pytest.raises(LavatubeError, match=error):
        run_float(path, folder / "x.npz", contract="norse,dt=1e-4", steps=3)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--backend", "float", "--contract", "brian"], "unknown contract, expected loihi, lava"),
        (["--backend", "float", "--contract", "norse"], "forward Euler is unstable under contract norse"),
        (["--backend", "float", "--contract", "norse", "--dt", "-1"], "dt must be positive"),
        (["--backend", "float", "--contract", "norse,dt=1e-4", "--dt", "1e-3"], "dt given twice"),
        (["--backend", "float", "--contract", "norse,dt=1e-4", "--record", "u"], "record, expected v, got u"),
        (["--backend", "fast", "--contract", "norse"], "a float NIR file runs on the float backend"),
        (["--backend", "fast"], "a float NIR file runs on the float backend"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(files, capsys, arguments, error):
    path, inputs, folder = files
    assert main(["run", str(path), "--input", str(inputs), "--out", str(folder / "t.npz"), *arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert error in lines[0]
    assert not (folder / "t.npz").exists()


def test_a_float_trace_is_shown_and_named_where_another_is_wanted(files, capsys):
    path, inputs, folder = files
    run_float(path, inputs, contract="norse,dt=1e-4", out=folder / "t.npz", record=["v"])
    trace = load_float_trace(folder / "t.npz")
    assert main(["inspect", str(folder / "t.npz"), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["steps"], shown["samples"], shown["recorded"]) == (30, 4, ["v"])
    assert shown["spikes"] == {"n": int(trace.spikes["n"].sum())}
    assert shown["contract"]["name"] == "norse"
    assert main(["inspect", str(folder / "t.npz")]) == 0
    assert "contract:" in capsys.readouterr().out
    assert main(["parity", str(folder / "t.npz"), str(folder / "t.npz")]) == 2
    assert "t.npz: a trace of a float network, expected a trace of a program" in capsys.readouterr().err


def test_a_damaged_float_trace_is_refused(files):
    path, inputs, folder = files
    run_float(path, inputs, contract="norse,dt=1e-4", out=folder / "t.npz")
    with np.load(folder / "t.npz") as opened:
        arrays = dict(opened)
    for name in ("meta", "spikes/n", "length"):
        np.savez(folder / "less.npz", **{key: value for key, value in arrays.items() if key != name})
        with pytest.raises(LavatubeError, match="not a float trace"):
            load_float_trace(folder / "less.npz")
    np.savez(folder / "odd.npz", **{**arrays, "spikes/n": arrays["spikes/n"] * 0.5})
    with pytest.raises(LavatubeError, match="spikes/n does not fit"):
        load_float_trace(folder / "odd.npz")
