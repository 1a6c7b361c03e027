"""Make tests/data/platforms: what other platforms' own importers make of small NIR networks.

    python tests/record_platforms.py PLATFORM [CASE ...]

PLATFORM: a name in RUN, in an environment that has it, nir and nirtorch. A record is PLATFORM_CASE.npz: spikes of the
neuron nodes [T, B, ...] by name, `platform` and version, `digest` of the network and the input that it belongs to.
lavatube is not imported: the records are the platforms' word.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nir
import numpy as np

FOLDER = Path(__file__).parent / "data" / "platforms"
DT = 1e-4
STEPS, BATCH = 60, 2
NEURONS = (nir.IF, nir.LIF, nir.CubaLIF)


def lif(size: int, *, r: str, tau: float = 8e-4, threshold: float = 1.0) -> nir.LIF:
    full = np.ones(size)
    ratio = {"1": 1.0, "tau/dt": tau / DT}[r]
    return nir.LIF(tau=full * tau, r=full * ratio, v_leak=full * 0, v_threshold=full * threshold)


def cuba(size: int, *, tau_syn: float, tau_mem: float = 8e-4, threshold: float = 1.0) -> nir.CubaLIF:
    full = np.ones(size)
    return nir.CubaLIF(
        tau_syn=full * tau_syn, tau_mem=full * tau_mem, r=full * (tau_mem / DT), v_leak=full * 0,
        v_threshold=full * threshold, w_in=full * (tau_syn / DT),
    )  # fmt: skip


def fires(shape: tuple[int, ...], *, r: float, threshold: float = 1.0) -> nir.IF:
    full = np.ones(shape)
    return nir.IF(r=full * r, v_threshold=full * threshold)


def affine(rng: np.random.Generator, size: int, inputs: int, *, scale: float = 1.0, dyadic: bool = False) -> nir.Affine:
    weight, bias = around(rng, (size, inputs)) * scale, around(rng, (size,)) * scale / 16
    if dyadic:
        weight, bias = np.round(weight * 8 / scale) / 8 * scale, bias * 0
    return nir.Affine(weight=weight, bias=bias)


def around(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.random(shape) * 1.6 - 0.7


def graph_of(nodes: dict[str, nir.NIRNode], edges: list[tuple[str, str]]) -> nir.NIRGraph:
    """nir 1.0.8 checks types unless told, and cannot know what a Flatten after a pool takes; 1.0.4 checks nothing."""
    return nir.NIRGraph(nodes, edges, **({} if version("nir") == "1.0.4" else {"type_check": False}))


def chain(shape: tuple[int, ...], *nodes: nir.NIRNode, last: tuple[int, ...], more: Any = ()) -> nir.NIRGraph:
    """Nodes named a, b, c, ... in order, between `input` and `output`; `more` are further nodes and edges."""
    names = [chr(ord("a") + i) for i in range(len(nodes))]
    line = ["input", *names, "output"]
    named = {
        "input": nir.Input(np.array(shape)),
        **dict(zip(names, nodes, strict=True)),
        "output": nir.Output(np.array(last)),
    }
    edges = [(line[i], line[i + 1]) for i in range(len(line) - 1)]
    extra_nodes, extra_edges = more or ({}, [])
    return graph_of({**named, **extra_nodes}, [*edges, *extra_edges])


def cases() -> dict[str, nir.NIRGraph]:
    """Small networks that between them use what the importers take."""
    rng = np.random.default_rng(5)
    recurrent = ({"w": affine(rng, 20, 20)}, [("b", "w"), ("w", "b")])
    picture, conv = (2, 9, 9), {"dilation": 1, "groups": 1, "input_shape": (9, 9)}

    def conv2d() -> nir.Conv2d:
        weight, bias = around(rng, (3, 2, 3, 3)), around(rng, (3,)) / 16
        return nir.Conv2d(weight=weight, bias=bias, stride=1, padding=1, **conv)

    def images(r: float) -> nir.NIRGraph:
        pool = nir.SumPool2d(kernel_size=np.array([3, 3]), stride=np.array([3, 3]), padding=np.array([0, 0]))
        flatten = nir.Flatten(input_type={"input": np.array([3, 3, 3])}, start_dim=0, end_dim=-1)
        spikes, last = fires((3, 9, 9), r=r), fires((6,), r=r)
        return chain(picture, conv2d(), spikes, pool, flatten, affine(rng, 6, 27, scale=0.5), last, last=(6,))

    def two(
        first: nir.NIRNode, second: nir.NIRNode, *, scale: float = 1, dyadic: bool = False, more: Any = ()
    ) -> nir.NIRGraph:
        into, out = affine(rng, 20, 10, scale=scale, dyadic=dyadic), affine(rng, 5, 20, scale=scale, dyadic=dyadic)
        return chain((10,), into, first, out, second, last=(5,), more=more)

    return {
        "lif": two(lif(20, r="1"), lif(5, r="1"), scale=8),
        "lif-dyadic": two(lif(20, r="1"), lif(5, r="1"), scale=8, dyadic=True),
        "lif-r": two(lif(20, r="tau/dt"), lif(5, r="tau/dt")),
        "cuba": two(cuba(20, tau_syn=3e-4), cuba(5, tau_syn=2e-4)),
        "recurrent": two(cuba(20, tau_syn=3e-4), cuba(5, tau_syn=2e-4), more=recurrent),
        "images": images(1.0),
        "images-dt": images(1 / DT),
        "steps": two(lif(20, r="1", tau=6.0), lif(5, r="1", tau=4.0)),
        "recurrent-linear": two(
            cuba(20, tau_syn=3e-4),
            cuba(5, tau_syn=2e-4),
            more=({"w": nir.Linear(around(rng, (20, 20)))}, [("b", "w"), ("w", "b")]),
        ),
    }


def events(graph: nir.NIRGraph) -> np.ndarray:
    """[T, B, ...] uint8"""
    shape = tuple(int(n) for n in np.ravel(graph.nodes["input"].input_type["input"]))
    return (np.random.default_rng(1).random((STEPS, BATCH, *shape)) < 0.25).astype(np.uint8)


def digest_of(graph: nir.NIRGraph, x: np.ndarray) -> str:
    """SHA-256 of all numbers of the nodes, and of the input."""
    digest = hashlib.sha256(x.tobytes())
    for name, node in sorted(graph.nodes.items()):
        for field in ("weight", "bias", "tau", "tau_syn", "tau_mem", "r", "w_in", "v_threshold"):
            if hasattr(node, field):
                digest.update(f"{name}.{field}".encode() + np.asarray(getattr(node, field), np.float64).tobytes())
    return digest.hexdigest()


def neuron_names(graph: nir.NIRGraph) -> dict[str, str]:
    """{name in the torch module: name in the file} of the neuron nodes."""
    return {name.replace(".", "_"): name for name, node in graph.nodes.items() if isinstance(node, NEURONS)}


def hooked(module: Any, names: dict[str, str]) -> dict[str, list[np.ndarray]]:
    """Lists that fill with what the named submodules put out at every call."""
    seen: dict[str, list[np.ndarray]] = {name: [] for name in names.values()}
    for inner, name in names.items():

        def note(_m: Any, _i: Any, out: Any, name: str = name) -> None:
            seen[name].append((out[0] if isinstance(out, tuple) else out).detach().numpy().copy())

        module.get_submodule(inner).register_forward_hook(note)
    return seen


def through_time(module: Any, graph: nir.NIRGraph, x: np.ndarray) -> dict[str, np.ndarray]:
    """Step a module that takes and returns its state, one timestep of the batch at a time."""
    import torch

    seen, state = hooked(module, neuron_names(graph)), None
    with torch.no_grad():
        for value in x:
            _, state = module(torch.from_numpy(value.astype(np.float32)), state)
    return {name: np.stack(values) for name, values in seen.items()}


def run_norse(graph: nir.NIRGraph, x: np.ndarray, **more: Any) -> dict[str, np.ndarray]:
    from norse.torch import from_nir

    for node in graph.nodes.values():
        if isinstance(node, nir.Flatten):  # Norse hands the dimensions on as they are, and there is a batch
            node.start_dim = 1
    return through_time(from_nir(graph, dt=DT, **more), graph, x)


def run_norse_subtract(graph: nir.NIRGraph, x: np.ndarray) -> dict[str, np.ndarray]:
    from norse.torch.functional.reset import reset_subtract

    return run_norse(graph, x, reset_method=reset_subtract)


def run_spyx(graph: nir.NIRGraph, x: np.ndarray) -> dict[str, np.ndarray]:
    """Spyx hands out what its last layer does."""
    from spyx.nir import from_nir

    if any(isinstance(node, nir.Flatten) for node in graph.nodes.values()):
        raise NotImplementedError("Flatten: Spyx has the channels last, NIR first")
    if np.any(getattr(graph.nodes.get("w"), "bias", 0)):
        raise NotImplementedError("a recurrent bias: Spyx leaves it out")
    last = next(a for a, b in graph.edges if b == "output")
    _, outputs = from_nir(graph, x.astype(np.float32), dt=DT)
    return {last: np.asarray(outputs)}


def run_snntorch(graph: nir.NIRGraph, x: np.ndarray) -> dict[str, np.ndarray]:
    """The importer's own executor; without it for IF and recurrence, which break there (modules by its own map)."""
    from snntorch.import_nir import import_from_nir

    if any(isinstance(node, nir.IF) for node in graph.nodes.values()) or "w" in graph.nodes:
        return stepped_snntorch(graph, x, subtract=False)
    return through_time(import_from_nir(graph), graph, x)


def run_snntorch_subtract(graph: nir.NIRGraph, x: np.ndarray) -> dict[str, np.ndarray]:
    return stepped_snntorch(graph, x, subtract=True)


def run_snntorch_delay(graph: nir.NIRGraph, x: np.ndarray) -> dict[str, np.ndarray]:
    return stepped_snntorch(graph, x, subtract=True, delay=True)


def run_snntorch_delay_zero(graph: nir.NIRGraph, x: np.ndarray) -> dict[str, np.ndarray]:
    return stepped_snntorch(graph, x, subtract=False, delay=True)


def stepped_snntorch(
    graph: nir.NIRGraph, x: np.ndarray, *, subtract: bool, delay: bool = False
) -> dict[str, np.ndarray]:
    """A chain of the modules that snnTorch makes of each node, their states handed on by us."""
    import torch
    from snntorch.import_nir import _nir_to_snntorch_module

    if delay and any(isinstance(node, nir.IF) for node in graph.nodes.values()):
        raise NotImplementedError("IF: snnTorch writes its Leaky as LIF, and reads IF without the delay")
    modules, states = {}, {}
    line, follows = ["input"], {a: b for a, b in graph.edges if "w" not in (a, b)}
    while line[-1] in follows:
        line.append(follows[line[-1]])
    for name in line[1:-1]:
        node = graph.nodes[name]
        if isinstance(node, nir.SumPool2d):
            modules[name] = torch.nn.LPPool2d(1, tuple(node.kernel_size), tuple(node.stride))
            continue
        if isinstance(node, nir.Flatten):
            modules[name] = torch.nn.Flatten()
            continue
        if (name, "w") in graph.edges:
            inner = {"i": nir.Input(np.array(node.r.shape)), "o": nir.Output(np.array(node.r.shape))}
            parts = {**inner, "n": node, "w": graph.nodes["w"]}
            node = graph_of(parts, [("i", "n"), ("n", "w"), ("w", "n"), ("n", "o")])
        module = modules[name] = _nir_to_snntorch_module(node).float()
        if hasattr(module, "mem_reset"):
            module.reset_delay = delay
        if subtract and hasattr(module, "mem_reset"):
            module.reset_mechanism_val, module.state_function = torch.as_tensor(0), module._base_sub
    seen: dict[str, list[np.ndarray]] = {name: [] for name in neuron_names(graph).values()}
    with torch.no_grad():
        for value in x:
            signal = torch.from_numpy(value.astype(np.float32))
            for name, module in modules.items():
                if name not in seen:
                    signal = module(signal)
                    continue
                if name not in states and type(module).__name__ == "RSynaptic":  # its start takes no batch
                    shape = (x.shape[1], module.linear_features)
                    states[name] = tuple(torch.zeros(shape) for _ in range(3))
                out = module(signal, *states.get(name, ()))
                signal, states[name] = out[0], out if type(module).__name__.startswith("R") else out[1:]
                seen[name].append(signal.numpy().copy())
    return {name: np.stack(values) for name, values in seen.items()}


def run_spikingjelly(graph: nir.NIRGraph, x: np.ndarray) -> dict[str, np.ndarray]:
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    return through_time(import_from_nir(graph, dt=DT), graph, x)


def run_sinabs(graph: nir.NIRGraph, x: np.ndarray) -> dict[str, np.ndarray]:
    """sinabs runs all timesteps at once: one sample, its timesteps as the batch."""
    import torch
    from sinabs.nir import from_nir

    records: list[dict[str, np.ndarray]] = []
    for sample in range(x.shape[1]):
        module = from_nir(graph, batch_size=1)
        seen = hooked(module, neuron_names(graph))
        with torch.no_grad():
            module(torch.from_numpy(x[:, sample].astype(np.float32)))
        records.append({name: values[0] for name, values in seen.items()})
    return {name: np.stack([record[name] for record in records], axis=1) for name in records[0]}


def run_nengo(graph: nir.NIRGraph, x: np.ndarray) -> dict[str, np.ndarray]:
    """Affine -> LIF chains as the NIR paper's script builds them, one sample at a time."""
    import nengo

    if any(np.any(getattr(node, "r", 1) != 1) for node in graph.nodes.values()):
        raise NotImplementedError("r")
    lifs = {name: node for name, node in graph.nodes.items() if isinstance(node, nir.LIF)}
    samples = []
    for sample in range(x.shape[1]):
        with nengo.Network() as model:
            before = nengo.Node(nengo.processes.PresentInput(x[:, sample], presentation_time=DT))
            probes = {}
            for name, node in graph.nodes.items():
                if isinstance(node, nir.Affine):
                    weigh = lambda t, v, node=node: node.weight @ v + node.bias  # noqa: E731
                    after = nengo.Node(weigh, size_in=node.weight.shape[1], size_out=node.weight.shape[0])
                elif name in lifs:
                    size, start = len(node.tau), {"voltage": nengo.dists.Choice([0])}
                    kind = nengo.LIF(tau_rc=float(node.tau[0]), tau_ref=0, amplitude=DT, initial_state=start)
                    after = nengo.Ensemble(
                        size, 1, neuron_type=kind, gain=1 / node.v_threshold, bias=np.zeros(size)
                    ).neurons  # fmt: skip
                    probes[name] = nengo.Probe(after)
                elif isinstance(node, (nir.Input, nir.Output)):
                    continue
                else:
                    raise NotImplementedError(type(node).__name__)
                nengo.Connection(before, after, synapse=None)
                before = after
        with nengo.Simulator(model, dt=DT, progress_bar=False) as simulator:
            simulator.run_steps(len(x))
            samples.append({name: np.round(simulator.data[probe]) for name, probe in probes.items()})
    return {name: np.stack([sample[name] for sample in samples], axis=1) for name in lifs}


RUN: dict[str, Callable[[nir.NIRGraph, np.ndarray], dict[str, np.ndarray]]] = {
    "norse": run_norse, "snntorch": run_snntorch, "snntorch-subtract": run_snntorch_subtract,
    "snntorch-delay": run_snntorch_delay, "snntorch-delay-zero": run_snntorch_delay_zero,
    "spikingjelly": run_spikingjelly, "sinabs": run_sinabs,
    "nengo": run_nengo, "norse-subtract": run_norse_subtract, "spyx-1.0": run_spyx,
}  # fmt: skip


def record(platform: str, case: str) -> None:
    graph = cases()[case]
    x = events(graph)
    digest = digest_of(graph, x)
    try:
        spikes = RUN[platform](graph, x)
    except Exception as error:  # an importer that refuses, or breaks, leaves no record
        print(f"{platform} {case}: {type(error).__name__}: {str(error)[:120]}")
        return
    if not any(value.any() for value in spikes.values()):
        return print(f"{platform} {case}: no spikes, nothing to record")
    arrays = {name: value.astype(np.uint16) for name, value in spikes.items()}
    assert all((arrays[name] == spikes[name]).all() for name in arrays)
    name = FOLDER / f"{platform}_{case}.npz"
    FOLDER.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        name, digest=np.array(digest), platform=np.array(f"{platform} {version(platform.split('-')[0])}"), **arrays
    )
    print(f"{platform} {case}: " + ", ".join(f"{k} {int(v.sum())}" for k, v in arrays.items()))


if __name__ == "__main__":
    for case in sys.argv[2:] or sorted(cases()):
        record(sys.argv[1], case)
