"""Energy of CPU packages, as Linux's powercap offers it (RAPL of Intel and AMD)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lavatube.errors import UnsupportedError

POWERCAP = Path("/sys/class/powercap")


@dataclass
class RaplMeter:
    """Sum over the packages; the counters wrap, so it must be read more often than they do (minutes)."""

    zones: tuple[Path, ...]
    name: str

    def __post_init__(self) -> None:
        self._last = [self._raw(zone) for zone in self.zones]
        self._sum = 0

    def microjoules(self) -> int:
        """Since the meter was made."""
        for number, zone in enumerate(self.zones):
            now = self._raw(zone)
            step = now - self._last[number]
            if step < 0:  # wrapped
                step += int((zone / "max_energy_range_uj").read_text())
            self._last[number] = now
            self._sum += step
        return self._sum

    def _raw(self, zone: Path) -> int:
        return int((zone / "energy_uj").read_text())


def rapl_meter(folder: Path = POWERCAP) -> RaplMeter:
    """Of all packages. raises: UnsupportedError where there is none, or it may not be read."""
    zones = tuple(sorted(zone for zone in folder.glob("intel-rapl:*") if zone.name.count(":") == 1))
    packages = tuple(zone for zone in zones if _text(zone / "name").startswith("package"))
    if not packages:
        raise UnsupportedError(
            "this machine's CPU energy cannot be measured",
            where=str(folder),
            expected="RAPL packages (intel-rapl:0, ...)",
            got="none",
            remedy="virtual machines rarely show them; measure on the machine itself",
        )
    try:
        return RaplMeter(packages, f"RAPL, {len(packages)} CPU packages")
    except OSError as error:
        raise UnsupportedError(
            "this machine's CPU energy may not be read",
            where=str(packages[0] / "energy_uj"),
            got=str(error.strerror),
            remedy="ask for read permission on it",
        ) from error


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
