"""Counts x prices = energy, in integer femtojoules, as intervals with provenance."""

from lavatube.sim.energy.estimate import EnergyEstimate, energy, save_energy
from lavatube.sim.energy.priced import PricedCounts
from lavatube.sim.energy.step_time import StepTimes

__all__ = ["EnergyEstimate", "PricedCounts", "StepTimes", "energy", "save_energy"]
