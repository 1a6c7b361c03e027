"""lavatube: from a trained spiking network to neuromorphic integer arithmetic, with every spike compared on the way.

The main calls are imported on first use (PEP 562), so `import lavatube` needs NumPy only.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_CALLS = {  # name: (module, attribute)
    "LavatubeError": ("lavatube.errors", "LavatubeError"),
    "load_data": ("lavatube.train.datasets.catalog", "load_data"),
    "load_program": ("lavatube.program_file", "load_program"),
    "load_trace": ("lavatube.trace", "load_trace"),
    "train_network": ("lavatube.train.run", "train"),
    "quantize": ("lavatube.convert.quantize", "quantize"),
    "export": ("lavatube.convert.export", "export"),
    "lower": ("lavatube.deploy.lower", "lower"),
    "map_program": ("lavatube.deploy.mapping.map_program", "map_program"),
    "encode": ("lavatube.sim.encode", "encode"),
    "run": ("lavatube.sim.run", "run"),
    "run_float": ("lavatube.sim.float_run", "run_float"),
    "quantize_float": ("lavatube.deploy.lower_float", "quantize_float"),
    "float_parity": ("lavatube.sim.float_parity", "float_parity"),
    "parity": ("lavatube.sim.parity", "parity"),
    "count": ("lavatube.sim.counts", "count"),
    "energy": ("lavatube.sim.energy", "energy"),
    "diff": ("lavatube.sim.differences.diff", "diff"),
    "explain": ("lavatube.sim.explain.explain", "explain"),
    "report": ("lavatube.sim.report.page", "report"),
}

__all__ = ["__version__", *_CALLS]


def __getattr__(name: str) -> Any:
    if name not in _CALLS:
        raise AttributeError(f"module 'lavatube' has no attribute {name!r}")
    module, attribute = _CALLS[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
