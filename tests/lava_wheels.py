"""Golden traces that the wheels of lava-dl and lava-nc carry, fetched only when asked for."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest

FOLDER = "LAVATUBE_WHEELS"
PINS = {  # requirement: (file, SHA-256)
    "lava-dl==0.6.0": (
        "lava_dl-0.6.0-py3-none-any.whl", "bcb448f2bb85dc0da4b4dbbbae16543d2a978c1da7279acc522ad621fc68c437"
    ),
    "lava-nc==0.10.0": (
        "lava_nc-0.10.0-py3-none-any.whl", "d646723e888a72868dac77d31beee3eef1f540366a8c1a8578a2dc3302470926"
    ),
}  # fmt: skip


class Wheel:
    """A folder of a wheel."""

    def __init__(self, path: Path, folder: str) -> None:
        self.zip, self.folder = zipfile.ZipFile(path), folder

    def bytes(self, name: str) -> bytes:
        return self.zip.read(f"{self.folder}/{name}")

    def stream(self, name: str) -> io.BytesIO:
        return io.BytesIO(self.bytes(name))

    def array(self, name: str) -> np.ndarray:
        return np.load(self.stream(name), allow_pickle=False)


def wheel(requirement: str, folder: str) -> Wheel:
    """Skips the test where nobody asked for it, or the wheel cannot be fetched."""
    name, sha256 = PINS[requirement]
    if not os.environ.get(FOLDER):
        pytest.skip(f"set {FOLDER} to a folder for {name}; it is fetched into it when it is not there")
    path = Path(os.environ[FOLDER]) / name
    if not path.is_file():
        _fetch(requirement, path.parent)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    assert found == sha256, f"{path} is not the wheel that the traces were compared with"
    return Wheel(path, folder)


def _fetch(requirement: str, folder: Path) -> None:
    import uv

    pip = [uv.find_uv_bin(), "run", "--no-project", "--with", "pip", "python", "-m", "pip"]
    options = ["--no-deps", "--ignore-requires-python", "--only-binary", ":all:", "-d", str(folder)]
    done = subprocess.run([*pip, "download", requirement, *options], capture_output=True, text=True, timeout=600)
    if done.returncode:
        pytest.skip(f"{requirement} could not be fetched: {(done.stderr.splitlines() or ['no reason given'])[-1]}")
