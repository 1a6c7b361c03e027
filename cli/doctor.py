"""lavatube doctor"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from lavatube.cli.options import DataDir, Json

PACKAGES = ("torch", "brevitas", "nir", "numpy", "scipy", "h5py", "safetensors", "scikit-learn", "uv")


def doctor(data_dir: DataDir = None, json: Json = False) -> int:
    """Say what works here: versions, devices, engines, data; prepares and tests the Lava worker. Exit 1 if it fails."""
    from lavatube.cli.output import print_json, say

    say("preparing and testing the Lava worker ...")
    found: dict[str, Any] = {"packages": _versions(), "devices": _devices(), "lava worker": _worker()}
    found["data"] = _data(data_dir)
    works = "error" not in found["lava worker"]
    from lavatube.sim.self_check import check_fast, check_onnx

    fast = check_fast()
    lava = "equal to the reference" if works else "does not work"
    found["engines"] = {"reference": "is the definition", "fast": fast, "lava": lava, "torch": "runs run folders only"}
    found["engines"]["onnx"] = check_onnx()
    if json:
        print_json(found)
    else:
        for topic, facts in found.items():
            rows = facts if isinstance(facts, dict) else {"": facts}
            print(topic)
            for name, value in rows.items():
                print(f"  {name}: {value}" if name else f"  {value}")
    return 0 if works and fast == "equal to the reference" else 1


def _versions() -> dict[str, str]:
    import platform

    from lavatube import __version__

    rows = {"lavatube": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            rows[package] = installed(package)
        except PackageNotFoundError:
            rows[package] = "missing"
    return rows


def _devices() -> dict[str, str]:
    import torch

    from lavatube.train.exact_sums import float32_is_exact

    names = {"cpu": f"{torch.get_num_threads()} threads"}
    names |= {f"cuda:{index}": torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())}
    exact = {True: "float32 sums exact", False: "float32 sums not exact, float64 is used"}
    return {name: f"{what}; {exact[float32_is_exact(name.split(':')[0])]}" for name, what in names.items()}


def _worker() -> dict[str, Any]:
    from lavatube.errors import LavatubeError
    from lavatube.sim.self_check import check_worker

    try:
        return check_worker()
    except LavatubeError as error:
        return {"error": str(error)}


def _data(folder: Path | None) -> str:
    if folder is None:
        return "digits (embedded); no data folder given (--data-dir or LAVATUBE_DATA)"
    if not folder.is_dir():
        return f"digits (embedded); {folder} is not a folder"
    return "digits (embedded); " + ", ".join(sorted(entry.name for entry in folder.iterdir()))
