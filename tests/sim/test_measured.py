"""Measured energy subtracts idle, and a machine without a meter says so."""

from __future__ import annotations

import time

import pytest

from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.sim.measured import nvml
from lavatube.sim.measured.rapl import rapl_meter

RANGE = 1_000_000


@pytest.fixture
def powercap(tmp_path):
    """Two packages, a memory zone inside the first, and a whole-platform zone, as Linux shows them."""
    zones = {"intel-rapl:0": "package-0", "intel-rapl:1": "package-1", "intel-rapl:0:0": "dram", "intel-rapl:2": "psys"}
    for number, (zone, name) in enumerate(zones.items()):
        (tmp_path / zone).mkdir()
        (tmp_path / zone / "name").write_text(f"{name}\n")
        (tmp_path / zone / "energy_uj").write_text(f"{100 * number}\n")
        (tmp_path / zone / "max_energy_range_uj").write_text(f"{RANGE}\n")
    return tmp_path


def test_rapl_sums_the_packages_and_counts_on_where_a_counter_wraps(powercap):
    meter = rapl_meter(powercap)
    assert meter.name == "RAPL, 2 CPU packages"
    for zone in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0", "intel-rapl:2"):
        (powercap / zone / "energy_uj").write_text("600\n")
    assert meter.microjoules() == 600 + 500
    (powercap / "intel-rapl:1" / "energy_uj").write_text("10\n")
    assert meter.microjoules() == 1100 + RANGE - 590


def test_without_a_package_the_cpu_is_said_to_be_unmeasurable(tmp_path):
    with pytest.raises(UnsupportedError, match="CPU energy cannot be measured, expected RAPL packages"):
        rapl_meter(tmp_path)


def test_without_nvidias_driver_the_gpu_is_said_to_be_unmeasurable(monkeypatch):
    monkeypatch.setattr(nvml, "LIBRARY", "libno-such-driver.so.1")
    with pytest.raises(UnsupportedError, match="GPU energy cannot be measured, expected libno-such-driver"):
        nvml.nvml_meter(None)


def test_a_run_costs_what_it_draws_above_idle():
    measure = pytest.importorskip("lavatube.sim.measured.measure", reason="torch")

    class Fake:
        """30 W at rest, 1 J more for each run."""

        name = "fake"

        def __init__(self):
            self.start, self.runs = time.perf_counter(), 0

        def microjoules(self):
            return int((30 * (time.perf_counter() - self.start) + self.runs) * 1e6)

    meter = Fake()

    def forward():
        time.sleep(0.01)
        meter.runs += 1

    found = measure.measured(meter, forward, name="fake", batch=4, num_steps=2, seconds=0.2)
    assert found.idle_watts == pytest.approx(30, rel=0.01)
    assert found.joules_per_sample == pytest.approx(1 / 4, rel=0.01)
    assert found.total_joules_per_sample > found.joules_per_sample
    assert found.to_json()["grade"] == "measured"


def test_windows_too_short_for_a_counter_are_refused(tmp_path):
    measure = pytest.importorskip("lavatube.sim.measured.measure", reason="torch")
    with pytest.raises(LavatubeError, match="measuring time, expected at least 2 s"):
        measure.measure(tmp_path, None, seconds=0.5)
