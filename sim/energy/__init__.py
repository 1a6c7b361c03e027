"""Counts x prices = energy, in integer femtojoules, as intervals with provenance."""

from lavatube.sim.energy.estimate import EnergyEstimate, energy, save_energy
from lavatube.sim.energy.priced import PricedCounts

__all__ = ["EnergyEstimate", "PricedCounts", "energy", "save_energy"]
