"""Make docs/support.md by trying: every NIR primitive, and every kind of node of a program, on everything that is here.

    uv run tests/write_support.py [FILE]

What lowers, runs or is refused is found out on the smallest network that has the thing, never stated by hand.
"""

from __future__ import annotations

import inspect
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import nir
import numpy as np
from exported_networks import exported

from lavatube.contract import ExecutionContract
from lavatube.contract_presets import PRESETS
from lavatube.convert.float_graph.read import read_float_graph
from lavatube.convert.float_graph.simulate import simulate
from lavatube.deploy.lava_backend.choose import choose_processes
from lavatube.deploy.lower import lower
from lavatube.deploy.net_file.write import write_net
from lavatube.deploy.onnx_file.write import write_onnx
from lavatube.errors import LavatubeError
from lavatube.program import Conv2dNode, DenseNode, InputNode, LoihiProgram, NeuronNode, ReadoutNode, SparseNode
from lavatube.sim.run import run
from lavatube.targets import OFFERS, refuse_what_target_lacks

PAGE = Path(__file__).parents[1] / "docs" / "support.md"
DT, STEPS = 1e-4, 4
HEAD = """# What is supported

Found out by `uv run tests/write_support.py` on the smallest network that has the thing; a test holds this page to it.

## Primitives of NIR 1.0.8

*Simulated*: in the float simulator, by contract (docs/contract.md). *Quantized file*: one that `lavatube export` wrote
becomes a program. *Float file*: anyone's becomes one, under the contracts named. *Lava*: the process that then stands
for it. Some rows have conditions (docs/nir.md, docs/contract.md); a file that breaks one is refused with node and rule.
"""
MIDDLE = """
## Nodes of a program

*yes*: the engine runs it, equal to the reference (docs/simulation.md). Lava: a stock process, or ours and why. ONNX,
`.net`: the file can say it. loihi1, loihi2: what the target offers.
"""


def primitives(neurons: str = "CubaLIF") -> dict[str, nir.NIRGraph]:
    """A network with each primitive, with parameters that as many contracts as possible take.

    neurons: what spikes in it: CubaLIF, LIF, or IF with r of 1/dt or 1 ("IF, r = 1").
    """
    image, flat = (2, 4, 4), (4,)
    rng = np.random.default_rng(0)

    def ones(shape: tuple[int, ...], value: float = 1.0) -> np.ndarray:
        return np.full(shape, value)

    def affine(out: int, size: int) -> nir.Affine:
        return nir.Affine(rng.integers(-2, 6, (out, size)) / 8, np.zeros(out))

    def lif(shape: tuple[int, ...]) -> nir.NIRNode:
        return nir.LIF(ones(shape, 2e-4), ones(shape), ones(shape, 0), ones(shape), ones(shape, 0))

    r = 1 / DT if neurons == "IF" else 1.0

    def cuba(shape: tuple[int, ...]) -> nir.NIRNode:
        if neurons != "CubaLIF":
            return lif(shape) if neurons == "LIF" else nir.IF(ones(shape, r), ones(shape), ones(shape, 0))
        return nir.CubaLIF(ones(shape, DT), ones(shape, 2 * DT), ones(shape, 2), ones(shape, 0), ones(shape))

    def chain(shape: tuple[int, ...], out: tuple[int, ...], *nodes: nir.NIRNode) -> nir.NIRGraph:
        names = ["input", *(f"n{index}" for index in range(len(nodes))), "output"]
        each = [nir.Input(np.array(shape)), *nodes, nir.Output(np.array(out))]
        edges = list(pairwise(names))
        return nir.NIRGraph(dict(zip(names, each, strict=True)), edges, type_check=False)

    cuba_li = nir.CubaLI(ones(flat, DT), ones(flat, 2 * DT), ones(flat, 2), ones(flat, 0))

    def after_weights(node: nir.NIRNode) -> nir.NIRGraph:
        return chain(flat, flat, affine(4, 4), node, affine(4, 4), cuba(flat))

    def before_weights(node: nir.NIRNode) -> nir.NIRGraph:
        return chain(flat, flat, affine(4, 4), cuba(flat), node, affine(4, 4), cuba(flat))

    def pooled(node: nir.NIRNode) -> nir.NIRGraph:
        flatten = nir.Flatten({"input": np.array([2, 2, 2])}, 0, -1)
        return chain(image, flat, conv, cuba(image), node, flatten, affine(4, 8), cuba(flat))

    weight = rng.integers(-2, 6, (2, 2, 3, 3)) / 8
    conv = nir.Conv2d((4, 4), weight, (1, 1), (1, 1), 1, 1, np.zeros(2))
    window = (np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))
    plain = chain(flat, flat, affine(4, 4), cuba(flat))
    inner = chain(flat, flat, affine(4, 4), cuba(flat))
    nested = nir.NIRGraph(
        {"input": nir.Input(np.array(flat)), "net": inner, "output": nir.Output(np.array(flat))},
        [("input", "net"), ("net", "output")], type_check=False,
    )  # fmt: skip
    return {
        "Input": plain, "Output": plain, "Affine": plain,
        "Linear": chain(flat, flat, nir.Linear(affine(4, 4).weight), cuba(flat)),
        "Conv1d": chain((2, 4), (2, 4), nir.Conv1d(4, weight[:, :, 0], 1, 1, 1, 1, np.zeros(2)), cuba((2, 4))),
        "Conv2d": chain(image, image, conv, cuba(image)),
        "SumPool2d": pooled(nir.SumPool2d(*window)), "AvgPool2d": pooled(nir.AvgPool2d(*window)),
        "Flatten": chain(image, flat, nir.Flatten({"input": np.array(image)}, 0, -1), affine(4, 32), cuba(flat)),
        "Scale": before_weights(nir.Scale(ones(flat, 0.5))),
        "Delay": before_weights(nir.Delay(ones(flat, 2 * DT))),
        "Threshold": after_weights(nir.Threshold(ones(flat))),
        "I": chain(flat, flat, affine(4, 4), nir.I(ones(flat, 1 / DT))),
        "LI": chain(flat, flat, affine(4, 4), nir.LI(ones(flat, 2e-4), ones(flat), ones(flat, 0))),
        "IF": chain(flat, flat, affine(4, 4), nir.IF(ones(flat, r), ones(flat), ones(flat, 0))),
        "LIF": chain(flat, flat, affine(4, 4), lif(flat)),
        "CubaLI": chain(flat, flat, affine(4, 4), cuba_li),
        **({"CubaLIF": plain} if neurons == "CubaLIF" else {}), "NIRGraph": nested,
    }  # fmt: skip


def taken_by(act: Callable[[Path, ExecutionContract], Any], files: Iterable[Path]) -> tuple[list[str], str]:
    """(contracts under which it works in one of the files, why not in the first one)"""
    fine, why = set[str](), ""
    for file in files:
        for name, contract in PRESETS.items():
            try:
                act(file, contract.with_overrides(dt=DT))
                fine.add(name)
            except LavatubeError as error:
                why = why or error.what
    return [name for name in PRESETS if name in fine], why


def listed(names: list[str]) -> str:
    if len(names) == len(PRESETS):
        return "all"
    missing = [name for name in PRESETS if name not in names]
    return f"all but {', '.join(missing)}" if len(missing) < 6 else ", ".join(names) or "none"


def primitive_rows(folder: Path) -> Iterable[list[str]]:
    quantized = quantized_primitives(folder)
    takes_floats = "contract" in inspect.signature(lower).parameters
    variants = {neurons: primitives(neurons) for neurons in ("CubaLIF", "LIF", "IF", "IF, r = 1")}
    for kind in variants["CubaLIF"]:
        files = []
        for graphs in variants.values():
            if kind in graphs:
                files.append(folder / f"{kind}_{len(files)}.nir")
                nir.write(str(files[-1]), graphs[kind])
        made: list[LoihiProgram] = []
        simulated, _ = taken_by(simulates, files)
        why, process = quantized.get(kind, ("not in quantized files", ""))
        lowered: list[str] = []
        if takes_floats:
            lowered, why = taken_by(lambda path, contract, made=made: made.append(lowers(path, contract)), files)
            process = process or (processes(made[0]) if made else "")
        refused = "" if kind in quantized or lowered else why
        yield [kind, "yes", listed(simulated), "yes" if kind in quantized else "-",
               listed(lowered) if takes_floats else "-", process or "-", refused]  # fmt: skip


def simulates(path: Path, contract: ExecutionContract) -> None:
    graph = read_float_graph(path)
    simulate(graph, contract, np.ones((STEPS, 1, *graph.shapes[graph.inputs[0]])))


def lowers(path: Path, contract: ExecutionContract) -> LoihiProgram:
    return lower(path, **{"contract": contract, "num_steps": STEPS})  # type: ignore[arg-type]


def quantized_primitives(folder: Path) -> dict[str, tuple[str, str]]:
    """{primitive: ("", Lava process)} of the files that we export."""
    found: dict[str, tuple[str, str]] = {}
    for kind in ("conv", "residual"):
        exported(kind, folder / f"{kind}.nir")
        program = lower(folder / f"{kind}.nir")
        chosen = choose_processes(program)
        spelled = {"dense": "Affine", "neuron": "CubaLIF"}
        for node in (*program.synapses, *program.neurons):
            name = "Scale" if getattr(node, "groups", 1) > 1 else spelled.get(node.kind, "Conv2d")
            found.setdefault(name, ("", _name(chosen[node.name])))
    exported("pooled", folder / "pooled.nir")
    pooled = lower(folder / "pooled.nir")
    assert len(pooled.synapses) == 3, "a pool became a node"
    found["SumPool2d"] = ("", "part of the synapse behind it")
    host = ("", "host")
    return {**found, "Input": host, "Output": host, "Flatten": ("", "passed over")}


def processes(program: LoihiProgram) -> str:
    return ", ".join(sorted({_name(choice) for choice in choose_processes(program).values()}))


def _name(choice: Any) -> str:
    return choice.process if choice.stock else f"{choice.process} (ours)"


def programs() -> dict[str, LoihiProgram]:
    """The smallest program with each thing."""
    weight = (np.arange(16).reshape(4, 4) % 5 - 2).astype(np.int16) * 32
    dense = DenseNode("a", (4,), weight, 8, 0)
    neuron = NeuronNode("n", (4,), 4095, 400, 30, np.zeros(4, np.int16), 0)

    def program(first: Any = dense, population: NeuronNode = neuron, *, bits: int = 1, reads: str = "current",
                more: Any = (), edges: Any = (), source: Any = None) -> LoihiProgram:  # fmt: skip
        population = replace(population, shape=first.out_shape, bias_mant=np.zeros(first.out_shape, np.int16))
        size = int(np.prod(first.out_shape))
        ends: list[Any] = [ReadoutNode("output", np.zeros(size, np.int64), reads)]  # type: ignore[arg-type]
        links = [("input", "a"), ("a", "n"), *edges]
        if reads == "current":
            ends.insert(0, DenseNode("b", population.shape, np.full((size, size), 32, np.int16), 8, 0))
            links += [("n", "b"), ("b", "output")]
        else:
            links.append(("n", "output"))
        nodes = (source or InputNode("input", first.in_shape, bits), first, *more, population, *ends)
        return LoihiProgram(nodes, tuple(links), STEPS, {"kind": "probe", "sha256": ""})

    image = Conv2dNode("a", (2, 4, 4), np.full((2, 2, 3, 3), 32, np.int16), 8, 0, padding=(1, 1))
    groups = Conv2dNode("a", (2, 4, 4), np.full((2, 1, 3, 3), 32, np.int16), 8, 0, padding=(1, 1), groups=2)
    two = (np.arange(4, dtype=np.int32), np.arange(5, dtype=np.int64))
    sparse = SparseNode("a", (4,), (4,), np.full(4, 64, np.int16), *two, 8, 0)
    loop = DenseNode("r", (4,), weight, 8, 0)
    again = DenseNode("a2", (4,), weight, 8, 0)
    second = (InputNode("input2", (4,), 1), again)
    return {
        "input, binary": program(), "input, graded": program(bits=4),
        "several inputs": program(more=second, edges=(("input2", "a2"), ("a2", "n"))),
        "dense": program(), "sparse": program(sparse), "conv2d": program(image),
        "conv2d with groups or dilation": program(groups),
        "several synapses into one population": program(more=(again,), edges=(("input", "a2"), ("a2", "n"))),
        "delay": program(replace(dense, delay=3)),
        "recurrence": program(more=(loop,), edges=(("n", "r"), ("r", "n"))),
        "neuron, reset to zero": program(),
        "neuron with a stored current (du < 4095)": program(population=replace(neuron, du=1000)),
        "soft reset": program(population=replace(neuron, reset="subtract")),
        "signed spikes": program(population=replace(neuron, output="signed", vth_low=30)),
        "graded spikes": program(population=replace(neuron, output="graded", payload_shift=6, payload_bits=8)),
        "refractory period": program(population=replace(neuron, refractory=2)),
        "initial potential": program(population=replace(neuron, v_initial=100)),
        "periodic reset": program(population=replace(neuron, reset_interval=2)),
        "leaky integrator (no spikes)": program(population=replace(neuron, output="none"), reads="voltage"),
        "read-out of currents": program(), "read-out of spikes": program(reads="spikes"),
        "read-out of voltages": program(reads="voltage"),
    }  # fmt: skip


def tried(act: Callable[[], Any]) -> str:
    try:
        act()
    except LavatubeError as error:
        return f"no: {error.what}"
    return "yes"


def program_rows(folder: Path) -> Iterable[list[str]]:
    for name, program in programs().items():
        x = {node.name: np.ones((STEPS, 1, *node.shape), np.int64) for node in program.inputs}
        cells = [tried(lambda p=program, x=x, b=backend: run(p, x, backend=b)) for backend in ("reference", "fast")]
        chosen = choose_processes(program)
        own = sorted({f"{c.process}: {c.why_own}" for c in chosen.values() if not c.stock})
        stock = ", ".join(sorted({c.process for c in chosen.values() if c.stock}))
        cells.append(f"ours ({'; '.join(own)})" if own else f"stock ({stock})")
        cells.append(tried(lambda p=program: write_onnx(p, folder / "x.onnx")))
        cells.append(tried(lambda p=program: write_net(p, folder / "x.net")))
        for target in OFFERS:
            cells.append(tried(lambda p=program, t=target: refuse_what_target_lacks(replace(p, target=t))))
        yield [name, *cells]


def table(columns: list[str], rows: Iterable[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines) + "\n"


def page() -> str:
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(name)
        columns = ["primitive", "read", "simulated", "quantized file", "float file", "Lava", "refused because"]
        text = HEAD + "\n" + table(columns, primitive_rows(folder)) + MIDDLE + "\n"
        columns = ["node", "reference", "fast", "Lava", "ONNX", ".net", *OFFERS]
        return (text + table(columns, program_rows(folder))).replace(str(folder), "FILE")


if __name__ == "__main__":
    (Path(sys.argv[1]) if sys.argv[1:] else PAGE).write_text(page())
