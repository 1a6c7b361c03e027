"""The errors that users see: one line that says what, where, expected, got and the remedy."""

from __future__ import annotations


class LavatubeError(Exception):
    """Bad input or a refusal. The command line prints it as one line and exits with 2."""

    def __init__(self, what: str, *, where: str = "", expected: str = "", got: str = "", remedy: str = "") -> None:
        self.what = what
        self.where = where
        parts = [f"{where}: {what}" if where else what]
        if expected:
            parts.append(f"expected {expected}")
        if got:
            parts.append(f"got {got}")
        line = ", ".join(parts)
        super().__init__(" ".join(f"{line}; {remedy}".split()) if remedy else " ".join(line.split()))


class UnsupportedError(LavatubeError):
    """A network or file asks for something that the target or this version does not offer."""


class WorkerError(LavatubeError):
    """The Lava worker could not be started, failed, or did not answer in time."""
