"""LoihiProgram -> a script of stock Lava processes and its arrays, for people who have Lava and not lavatube."""

from __future__ import annotations

import hashlib
import inspect
import io
import re
from pathlib import Path

import numpy as np

from lavatube import __version__
from lavatube.deploy.lava_backend.choose import choose_processes
from lavatube.deploy.lava_backend.settings import neuron_settings, synapse_settings
from lavatube.deploy.lava_backend.synapse_arrays import conv_matrix
from lavatube.deploy.lava_backend.timing import Timing, timing
from lavatube.deploy.lava_script.frame import HEAD, TAIL
from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.files import require_writable_file, whole_file
from lavatube.program import Conv2dNode, DenseNode, LoihiProgram, NeuronNode, SparseNode, Synapse
from lavatube.program_file import program_sha256

Arrays = dict[str, np.ndarray]


def write_lava_script(program: LoihiProgram, path: Path | str) -> Path:
    """Write SCRIPT.py and, beside it, SCRIPT.arrays.npz. Returns the path of the arrays.

    The script runs samples one after another in its own Python 3.10 with Lava 0.10.0, without lavatube, and gives the
    spikes of this program. Its processes are the stock ones of docs/lava.md, convolutions as `Sparse`.
    raises: UnsupportedError naming a node that has no stock process; LavatubeError if `path` is no .py file
    or cannot be written.
    """
    path = Path(path)
    if re.fullmatch(r"[A-Za-z0-9_.-]+\.py", path.name) is None:
        expected = "FILE.py of letters, digits, _ . -"
        raise LavatubeError("not the name of a script", where=str(path), expected=expected, got=path.name)
    npz = path.with_suffix(".arrays.npz")
    for each in (path, npz):
        require_writable_file(each)
    chosen, when = choose_processes(program, "sparse"), timing(program)
    for name, choice in chosen.items():
        if not choice.stock:
            remedy = "lavatube.deploy.lava_backend.build gives its processes, with lavatube's own; see docs/lava.md"
            raise UnsupportedError(f"no stock Lava process: {choice.why_own}", where=name, remedy=remedy)
    arrays: Arrays = {f"{node.name}.bias": node.bias for node in program.readouts}
    build = _build(program, {name: choice.process for name, choice in chosen.items()}, when, arrays)
    stored = io.BytesIO()
    np.savez_compressed(stored, **arrays)
    head = HEAD.format(
        script=path.name, arrays=npz.name, version=__version__, program=program_sha256(program),
        sha256=hashlib.sha256(stored.getvalue()).hexdigest(),
        num_steps=program.num_steps, pace=when.pace, streams=when.streams, depth=when.depth,
        inputs=", ".join(f"{node.name} {node.shape}, 0..{node.max_value}" for node in program.inputs),
        input_shapes={node.name: (node.shape, node.max_value) for node in program.inputs},
        neurons={node.name: (node.shape, when.latency[node.name]) for node in program.neurons},
        readouts={node.name: (node.reads, _heard(program, node.name), when.latency[node.name])
                  for node in program.readouts},
    )  # fmt: skip
    with whole_file(npz) as temporary:
        temporary.write_bytes(stored.getvalue())
    matrix = inspect.getsource(conv_matrix) if any(isinstance(each, Conv2dNode) for each in program.synapses) else ""
    with whole_file(path) as temporary:
        temporary.write_text("\n\n".join([head, *filter(None, [matrix]), build]) + TAIL, encoding="utf-8")
    return npz


def _build(program: LoihiProgram, processes: dict[str, str], when: Timing, arrays: Arrays) -> str:
    """The text of `build`; its arrays are added to `arrays`."""
    lines = [
        "def build(rows, arrays):",
        '    """{name: process}, connected; and one name of each part that nothing connects to another."""',
        "    network = {}",
    ]
    lines += [f"    network[{node.name!r}] = Source(data=rows[{node.name!r}])" for node in program.inputs]
    for synapse in program.synapses:
        lines += _synapse(program, synapse, processes[synapse.name], when.wait[synapse.name], arrays)
    for node in program.neurons:
        lines += _neurons(program, node, when, arrays)
    for source, into in program.edges:
        if any(into == node.name for node in program.readouts):
            continue
        out = "a_out" if any(source == each.name for each in program.synapses) else "s_out"
        to = "s_in" if any(into == each.name for each in program.synapses) else "a_in"
        lines.append(f"    network[{source!r}].{out}.connect(network[{into!r}].{to})")
    return "\n".join([*lines, f"    return network, {_parts(program)!r}"]) + "\n"


def _synapse(program: LoihiProgram, synapse: Synapse, process: str, wait: int, arrays: Arrays) -> list[str]:
    name = synapse.name
    arrays[f"{name}.weight"] = synapse.weight
    weight = f"arrays[{name + '.weight'!r}]"
    if isinstance(synapse, Conv2dNode):
        window = f"{synapse.in_shape}, {synapse.stride}, {synapse.padding}, {synapse.dilation}, {synapse.groups}"
        weights = f"conv_matrix({weight}, {window})"
    elif isinstance(synapse, SparseNode):
        arrays |= {f"{name}.index": synapse.index, f"{name}.indptr": synapse.indptr}
        places = f"arrays[{name + '.index'!r}], arrays[{name + '.indptr'!r}]"
        sizes = int(np.prod(synapse.out_shape)), int(np.prod(synapse.in_shape))
        weights = f"csr_matrix(({weight}.astype(np.int32), {places}), shape={sizes})"
    else:
        assert isinstance(synapse, DenseNode)
        weights = f"{weight}.astype(np.int32)" if process == "Dense" else f"csr_matrix({weight}.astype(np.int32))"
    lines, held = [f"    weights = {weights}"], ""
    if process == "DelaySparse":
        held = f", delays=wait(weights, {wait}), max_delay={wait}"
    settings = synapse_settings(synapse, program.source_of(synapse))
    said = "".join(f", {key}={value}" for key, value in settings.items())
    lines.append(
        f"    network[{name!r}] = {process}(weights=weights{held}{said}, sign_mode=SignMode.{synapse.sign.upper()})"
    )
    return lines


def _neurons(program: LoihiProgram, node: NeuronNode, when: Timing, arrays: Arrays) -> list[str]:
    arrays[f"{node.name}.bias_mant"] = node.bias_mant.astype(np.int32).reshape(-1)
    settings = neuron_settings(node, when.window(program.num_steps), when.first_tick(node.name), when.pace)
    said = "".join(f", {key}={value}" for key, value in settings.items())
    bias = f"arrays[{node.name + '.bias_mant'!r}]"
    size = int(np.prod(node.shape))
    return [f"    network[{node.name!r}] = LIFReset(shape=({size},), bias_mant={bias}{said})"]


def _heard(program: LoihiProgram, readout: str) -> list[str]:
    return [source for source, into in program.edges if into == readout]


def _parts(program: LoihiProgram) -> list[str]:
    """Of each part that edges connect, one node that is a process."""
    left, found = [node.name for node in program.nodes], list[str]()
    ends = {node.name for node in program.readouts}
    while left:
        part, size = {left[0]}, 0
        while size < len(part):
            size = len(part)
            part |= {name for edge in program.edges if part & set(edge) for name in edge}
        found.append(next(name for name in left if name in part - ends))
        left = [name for name in left if name not in part]
    return found
