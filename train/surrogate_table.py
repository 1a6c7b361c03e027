"""The surrogates that a recipe can choose."""

from __future__ import annotations

from lavatube.train.dspike import Dspike
from lavatube.train.recipe_model import Strict
from lavatube.train.surrogates import Atan, Rectangular, Sigmoid, SuperSpike, Triangular

SURROGATES: tuple[type[Strict], ...] = (Sigmoid, Rectangular, Atan, Triangular, SuperSpike, Dspike)
