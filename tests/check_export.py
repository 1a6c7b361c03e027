"""Whether another platform reads an exported .nir file as we mean it: its spikes against ours, every one.

    python tests/check_export.py run PLATFORM FILE.nir X.npz OUT.npz         in an environment that has the platform
    uv run tests/check_export.py compare PLATFORM FILE.nir X.npz OUT.npz     in ours: exit code 1 if a spike differs
    uv run tests/check_export.py files FOLDER          writes .nir and .npz files to try

PLATFORM: norse, nirtorch (its executor with Norse's neurons), snntorch, spikingjelly. X.npz: `input` [T, B, ...].
`run` imports no lavatube. `compare` simulates under the platform's contract, in its float32 and in float64: where both
decide alike, float64 decides. docs/nir.md has the results.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nir
import numpy as np
from record_platforms import DT, NEURONS, run_spikingjelly, through_time

Spikes = dict[str, np.ndarray]


def run_norse(graph: nir.NIRGraph, x: np.ndarray) -> Spikes:
    """Norse's own importer, which runs on nirtorch's old executor."""
    from norse.torch import from_nir

    return through_time(from_nir(graph, dt=DT), graph, x)


def run_nirtorch(graph: nir.NIRGraph, x: np.ndarray) -> Spikes:
    """nirtorch's executor of today; the modules are Norse's."""
    from nirtorch import nir_to_torch
    from norse.torch.utils.import_nir import _import_norse_module

    mapped = (nir.Affine, nir.Linear, nir.Conv2d, nir.SumPool2d, nir.Flatten, *NEURONS)
    return through_time(nir_to_torch(graph, dict.fromkeys(mapped, partial(_import_norse_module, dt=DT))), graph, x)


def run_snntorch(graph: nir.NIRGraph, x: np.ndarray) -> Spikes:
    from snntorch.import_nir import import_from_nir

    return through_time(import_from_nir(graph), graph, x)


RUN: dict[str, Callable[[nir.NIRGraph, np.ndarray], Spikes]] = {
    "norse": run_norse, "nirtorch": run_nirtorch, "snntorch": run_snntorch, "spikingjelly": run_spikingjelly,
}  # fmt: skip
CONTRACTS = {name: "norse" if name == "nirtorch" else name for name in RUN}


def compare(platform: str, file: Path, x: np.ndarray, theirs: Spikes) -> dict[str, tuple[int, ...]]:
    """{population: (its spikes; how many values are unlike ours, of them where float64 decides; unlike ours with >)}"""
    from lavatube.contract_presets import preset
    from lavatube.convert.float_graph.read import read_float_graph
    from lavatube.convert.float_graph.simulate import simulate

    graph, contract = read_float_graph(file), preset(CONTRACTS[platform]).with_overrides(dt=DT)
    ours, fine, strict = (
        simulate(graph, contract.with_overrides(**change), x).spikes
        for change in ({}, {"precision": "float64"}, {"comparator": ">"})
    )
    found: dict[str, tuple[int, ...]] = {}
    for name, spikes in ours.items():
        if name not in theirs:  # it is another node there
            found[name] = (0, spikes.size, spikes.size, spikes.size)
            continue
        unlike, decided = spikes != theirs[name], spikes == fine[name]
        counts = (theirs[name], unlike, unlike & decided, strict[name] != theirs[name])
        found[name] = tuple(int(np.sum(value)) for value in counts)
    return found


def main(arguments: list[str]) -> int:
    if arguments[0] == "files":
        return write_files(Path(arguments[1]))
    act, platform, file, given, out = arguments
    x = np.load(given)["input"]
    if act == "run":
        spikes: Any = RUN[platform](nir.read(file), x)
        label = f"{platform} {version(platform)}"
        np.savez_compressed(out, platform=np.array(label), **{name: value > 0 for name, value in spikes.items()})
        return 0
    with np.load(out) as arrays:
        theirs = {name: arrays[name] for name in arrays.files if name != "platform"}
        label = str(arrays["platform"])
    wrong = 0
    for name, (total, unlike, decided, strict) in compare(platform, Path(file), x, theirs).items():
        print(f"{label} {name}: {total} spikes, {unlike} unlike ours ({decided} where float64 decides), "
              f"{strict} unlike ours with >")  # fmt: skip
        wrong += unlike
    return 1 if wrong else 0


def write_files(folder: Path) -> int:
    from exported_networks import KINDS, exported

    folder.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        _, x = exported(kind, folder / f"{kind}.nir")
        np.savez_compressed(folder / f"{kind}.npz", input=x)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
