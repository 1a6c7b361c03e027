"""Parts of a run in Lava that are done, beside the file it is to end in: an interrupted command goes on from them."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path


class KeptParts:
    """A folder of one folder for each run, by a digest of what decides its trace."""

    def __init__(self, out: Path) -> None:
        """out: the file that the command writes."""
        self.folder = out.with_name(f"{out.name}.parts")
        self.used: set[Path] = set()

    def of(self, digest: str) -> Path:
        """The folder of a run."""
        self.used.add(self.folder / digest)
        return self.folder / digest

    def forget(self) -> None:
        """Remove the parts of the runs of this command; what others keep there stays."""
        for folder in self.used:
            shutil.rmtree(folder, ignore_errors=True)
        if self.used:
            with suppress(OSError):
                self.folder.rmdir()
