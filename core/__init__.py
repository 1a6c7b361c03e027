"""lavatube: from a trained spiking network to neuromorphic integer arithmetic, with every spike compared on the way.

The main calls are imported on first use (PEP 562), so `import lavatube` needs NumPy only.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_CALLS = {
    "LavatubeError": "lavatube.errors",
    "load_program": "lavatube.program_file",
    "load_trace": "lavatube.trace",
    "train": "lavatube.train.run",
    "quantize": "lavatube.convert.quantize",
    "export_nir": "lavatube.convert.to_nir",
    "lower": "lavatube.deploy.lower",
    "run": "lavatube.sim.run",
    "parity": "lavatube.sim.parity",
    "energy": "lavatube.sim.energy",
}

__all__ = ["__version__", *_CALLS]


def __getattr__(name: str) -> Any:
    if name not in _CALLS:
        raise AttributeError(f"module 'lavatube' has no attribute {name!r}")
    return getattr(import_module(_CALLS[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
