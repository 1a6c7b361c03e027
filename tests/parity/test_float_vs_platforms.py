"""The float simulator under a preset makes the spikes of that platform's own engine, every one of every neuron."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import nir
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_platforms import DT, cases, digest_of, events, run_norse

from lavatube.contract_presets import preset
from lavatube.convert.float_graph.read import flat_graph
from lavatube.convert.float_graph.simulate import simulate
from lavatube.errors import UnsupportedError

FOLDER = Path(__file__).parents[1] / "data" / "platforms"
RECORDS = sorted(path.stem for path in FOLDER.glob("*_*.npz") if path.stem != "published_lif")
PUBLISHED = [  # platform, changes to its preset, timesteps that its trace is late (Lava's synapse), its unit of v
    ("norse", {"dt": DT}, "norse", 0, 1.0),
    ("snntorch", {}, "snntorch", 0, 1.0),
    ("spyx", {}, "spyx", 0, 1.0),
    ("lava", {}, "lava_cpu_float", 1, 1.0),
    ("lava", {}, "lava_cpu_fixed", 1, None),
    ("sinabs", {"dt": DT}, "sinabs", 0, 1.0),
    ("nengo", {}, "nengo", 0, 10.0),
    ("rockpool", {}, "rockpool", 0, 1.0),
    ("spinnaker2", {}, "spinnaker2", 0, 102 / 102.02),
    ("loihi", {}, "lava_cpu_fixed", 1, None),
    ("loihi", {"decay": "exponential"}, "exact", 0, None),
]


def paper_neuron() -> nir.NIRGraph:
    """lif_norse.nir of the NIR paper, in float32 as there."""
    one = np.ones(1, np.float32)
    neuron = nir.LIF(tau=one * np.float32(0.0025), r=one, v_leak=one * 0, v_threshold=one * np.float32(0.1))
    nodes = {"input": nir.Input(np.array([1])), "0": nir.Affine(one[None], one * 0), "1": neuron,
             "output": nir.Output(np.array([1]))}  # fmt: skip
    return nir.NIRGraph(nodes, [("input", "0"), ("0", "1"), ("1", "output")], type_check=False)


@pytest.mark.parametrize(("name", "change", "trace", "late", "unit"), PUBLISHED)
def test_the_papers_published_spikes_come_out_under_the_platforms_contract(name, change, trace, late, unit):
    published = np.load(FOLDER / "published_lif.npz")
    drive = published["input"].astype(float)
    if name == "sinabs":
        drive = drive * np.float32(0.04)  # the paper's notebook scales the input there, and tau by dt
    contract = preset(name).with_overrides(**change) if change else preset(name)
    ours = simulate(flat_graph(paper_neuron()), contract, drive.reshape(-1, 1, 1), record=["v"])
    steps = len(drive) - late
    spikes = published[f"spikes/{trace}"]
    assert spikes.sum() == 4
    assert np.array_equal(ours.spikes["1"].ravel()[:steps], spikes[late:])
    if unit is not None:
        error = np.abs(ours.v["1"].ravel()[:steps] * unit - published[f"v/{trace}"][late:])
        assert error.max() < (2e-3 if trace == "spinnaker2" else 1e-6)  # SpiNNaker2 multiplies in fixed point


def test_records_of_four_platforms_are_here():
    assert {name.split("_")[0] for name in RECORDS} >= {"snntorch", "spikingjelly", "sinabs", "nengo"}


@pytest.mark.parametrize("record", RECORDS)
def test_a_recorded_platform_and_its_contract_make_the_same_spikes(record):
    platform, case = record.split("_")
    graph = cases()[case]
    x = events(graph)
    theirs = dict(np.load(FOLDER / f"{record}.npz"))
    assert str(theirs.pop("digest")) == digest_of(graph, x), (
        "recorded from another network: run tests/record_platforms.py"
    )
    assert str(theirs.pop("platform")).split()[0] == platform
    contract = preset(platform)
    ours = simulate(
        flat_graph(graph), contract.with_overrides(dt=DT) if platform.startswith(("norse", "spyx")) else contract, x
    )
    assert theirs
    assert all(value.any() and not value.all() for value in theirs.values())
    for name, value in theirs.items():
        assert np.array_equal(ours.spikes[name], value), f"{name}: {int((ours.spikes[name] != value).sum())} differ"


def test_equal_thresholds_tell_the_comparators_apart():
    """On weights of eighths, v meets the threshold exactly; the recorded >= platform differs from every > one."""
    graph = cases()["lif-dyadic"]
    spikes = {
        name: simulate(flat_graph(graph), preset(name), events(graph)).spikes for name in ("spikingjelly", "snntorch")
    }
    assert any((spikes["spikingjelly"][node] != spikes["snntorch"][node]).any() for node in "bd")


def random_graph(seed: int) -> nir.NIRGraph:
    """Affine, Linear, LIF, CubaLIF and IF in a chain of one to three layers, some with their own recurrent synapse."""
    rng = np.random.default_rng(seed)
    sizes = [int(n) for n in rng.integers(2, 9, rng.integers(2, 5))]
    nodes: dict[str, nir.NIRNode] = {"input": nir.Input(np.array(sizes[:1]))}
    edges, before = [], "input"
    for layer, (fan_in, size) in enumerate(pairwise(sizes)):
        kind = rng.choice(["LIF", "CubaLIF", "IF"])
        full, gain = np.ones(size), 4.0 if kind == "LIF" else 1.0
        weight = rng.normal(0.2, 0.6, (size, fan_in)) * gain
        synapse = nir.Affine(weight, rng.normal(0, 0.1, size) * gain) if rng.random() < 0.7 else nir.Linear(weight)
        leak = rng.normal(0, 0.1, size) * (rng.random() < 0.3)
        tau = (rng.uniform(2, 9, size) * DT, rng.uniform(1.1, 5, size) * DT)
        threshold = rng.uniform(0.5, 1.5, size)
        cuba_only = {"tau_syn": tau[1], "tau_mem": tau[0], "w_in": tau[1] / DT}
        if kind == "IF":
            neuron: nir.NIRNode = nir.IF(r=full, v_threshold=threshold)
        elif kind == "LIF":
            neuron = nir.LIF(tau=tau[0], r=full, v_leak=leak, v_threshold=threshold)
        else:
            neuron = nir.CubaLIF(**cuba_only, r=tau[0] / DT, v_leak=leak, v_threshold=threshold)
        nodes |= {f"{layer}a": synapse, f"{layer}n": neuron}
        edges += [(before, f"{layer}a"), (f"{layer}a", f"{layer}n")]
        if rng.random() < 0.4:
            nodes[f"{layer}w"] = nir.Affine(rng.normal(0, 0.3, (size, size)), rng.normal(0, 0.1, size))
            edges += [(f"{layer}n", f"{layer}w"), (f"{layer}w", f"{layer}n")]
        before = f"{layer}n"
    nodes["output"] = nir.Output(np.array(sizes[-1:]))
    return nir.NIRGraph(nodes, [*edges, (before, "output")], type_check=False)


def near_ties(graph: nir.NIRGraph, x: np.ndarray) -> bool:
    """Whether float64 decides other spikes than float32: then so may the order of the sums in a matrix product."""
    contract = preset("norse").with_overrides(dt=DT)
    fine, coarse = (
        simulate(flat_graph(graph), contract.with_overrides(precision=precision), x)
        for precision in ("float64", "float32")
    )
    return any((fine.spikes[name] != coarse.spikes[name]).any() for name in fine.spikes)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_random_networks_spike_as_in_norse(seed):
    pytest.importorskip("norse", reason="norse is not installed")
    graph = random_graph(seed)
    shape = tuple(int(n) for n in graph.nodes["input"].input_type["input"])
    x = (np.random.default_rng(seed).random((40, 2, *shape)) < 0.4).astype(np.uint8)
    ours = simulate(flat_graph(graph), preset("norse").with_overrides(dt=DT), x)
    theirs = run_norse(graph, x)
    for name, value in theirs.items():
        assert np.array_equal(ours.spikes[name], value) or near_ties(graph, x)


@pytest.mark.parametrize(
    ("platform", "case"), [("sinabs", "cuba"), ("spikingjelly", "images"), ("snntorch", "images-dt")]
)
def test_what_the_platform_refuses_its_contract_refuses(platform, case):
    graph = cases()[case]
    with pytest.raises(UnsupportedError, match=f"contract {platform} "):
        simulate(flat_graph(graph), preset(platform), events(graph))
