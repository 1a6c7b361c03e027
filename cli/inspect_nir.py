"""What `lavatube inspect` says of a .nir file, ours or anyone's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ROLES = {"Input": "end", "Output": "end", "Affine": "synapse", "Linear": "synapse", "Conv1d": "synapse",
         "Conv2d": "synapse", "IF": "neurons", "LIF": "neurons", "CubaLIF": "neurons", "LI": "neurons",
         "CubaLI": "neurons", "I": "neurons"}  # fmt: skip
PARAMETERS = ("weight", "bias", "scale", "tau", "tau_syn", "tau_mem", "r", "w_in", "v_leak", "v_threshold", "v_reset",
              "threshold", "delay")  # fmt: skip
SETTINGS = ("kernel_size", "stride", "padding", "dilation", "groups", "start_dim", "end_dim")


def summarize_nir(file: Path, contract: str | None = None, dt: float | None = None) -> dict[str, Any]:
    """contract, dt: under which a float file would be lowered.

    raises: LavatubeError for a file that is damaged or makes no sense.
    """
    from lavatube.bounds import bound_program, never_spiking
    from lavatube.cli.inspect_program import targets
    from lavatube.convert.float_graph.contract_metadata import stated_contract
    from lavatube.convert.float_graph.raw import RawGraph, raw_from_file
    from lavatube.convert.float_graph.read import read_float_graph
    from lavatube.convert.program_metadata import PROGRAM_KEY
    from lavatube.convert.to_nir import METADATA_KEY
    from lavatube.deploy.lower import lower
    from lavatube.deploy.program_picture import program_memory
    from lavatube.errors import LavatubeError, UnsupportedError

    graph, raw = read_float_graph(file), raw_from_file(file)
    metadata = raw.metadata if isinstance(raw, RawGraph) else {}
    try:
        stated = stated_contract(metadata, where=str(file))
        states = stated.name if stated else "none"
    except UnsupportedError as error:
        states = f"one for its integers alone: {error.what}"
    rows = {name: _node(node, graph.shapes[name]) for name, node in graph.nodes.items()}
    count = sum(row.get("parameters", 0) for row in rows.values())
    summary: dict[str, Any] = {
        "nir": str(file),
        "is": "quantized by lavatube: integers in its metadata"
        if {METADATA_KEY, PROGRAM_KEY} & set(metadata)
        else "a float network",
        "nodes": rows,
        "edges": [[a, b, *(["a timestep late"] if (a, b) in graph.feedback else [])] for a, b in graph.edges],
        "assumptions": [dict(record) for record in graph.assumptions],
        "memory": {"parameters": count, "float64_mib": round(count * 8 / 2**20, 3)},
        "states contract": states,
        "contracts": contracts(graph, dt),
    }
    settings: dict[str, Any] = {
        name: value for name, value in (("contract", contract), ("dt", dt)) if value is not None
    }
    try:
        program = lower(file, **settings)
        summary["memory"] |= {f"program_{name}": value for name, value in program_memory(program).items()}
        summary["lossy"] = [dict(record) for record in program.lossy]
        summary["never_spiking"] = never_spiking(program, bound_program(program))
        summary["targets"] = targets(program)
    except LavatubeError as error:
        summary["targets"] = f"refused: {error}"
    return summary


def contracts(graph: Any, dt: float | None = None) -> dict[str, str]:
    """{preset: "takes it", with what it leaves out of the file, or why it refuses it}"""
    import numpy as np

    from lavatube.contract_presets import PRESETS
    from lavatube.convert.float_graph.check_contract import check_contract, ignored
    from lavatube.convert.float_graph.coefficients import coefficients
    from lavatube.convert.float_graph.population import POPULATIONS
    from lavatube.errors import LavatubeError

    verdicts = {}
    for name, contract in PRESETS.items():
        chosen = contract if dt is None else contract.with_overrides(dt=dt)
        try:
            check_contract(graph, chosen)
            with np.errstate(all="ignore"):
                for node_name, node in graph.nodes.items():
                    if isinstance(node, POPULATIONS):
                        coefficients(node_name, node, chosen)
            left = ", ".join(f"{r['node']} {r['what']}".strip() for r in ignored(graph, chosen) if r["node"])
            verdicts[name] = "takes it" + (f", but {left}" if left else "")
        except LavatubeError as error:
            verdicts[name] = f"refuses it: {str(error).removeprefix(f'{graph.path}:')}"
    return verdicts


def nir_picture(file: Path) -> Any:
    from lavatube.convert.float_graph.read import read_float_graph
    from lavatube.deploy.draw_graph import Picture

    graph = read_float_graph(file)
    nodes = {}
    for name, node in graph.nodes.items():
        kind, row = type(node).__name__, _node(node, graph.shapes[name])
        lines = [f"{kind} {'x'.join(map(str, graph.shapes[name]))}"]
        if "weight" in row:
            lines.append(f"weight {row['weight']}")
        lines += [f"{field} {row[field]}" for field in ("tau", "tau_mem", "v_threshold", "delay") if field in row]
        nodes[name] = (ROLES.get(kind, "other"), lines)
    return Picture(file.name, nodes, [(a, b, (a, b) in graph.feedback) for a, b in graph.edges])


def _node(node: Any, shape: tuple[int, ...]) -> dict[str, Any]:
    """Type, shape put out, and every parameter: its range, or for weights its shape and range."""
    import numpy as np

    row: dict[str, Any] = {"type": type(node).__name__, "shape": list(shape)}
    found: dict[str, Any] = {name: getattr(node, name) for name in PARAMETERS if getattr(node, name, None) is not None}
    for name, value in found.items():
        low, high = float(np.min(value)), float(np.max(value))
        span = f"{low:g}" if low == high else f"{low:g}..{high:g}"
        row[name] = f"{'x'.join(map(str, np.shape(value)))} in {span}" if name == "weight" else span
    for name in SETTINGS:
        if getattr(node, name, None) is not None:
            value = getattr(node, name)
            row[name] = value if isinstance(value, (str, int)) else np.asarray(value).ravel().tolist()
    if found:
        row["parameters"] = int(sum(np.size(value) for value in found.values()))
    return row
