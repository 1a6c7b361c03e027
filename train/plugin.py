"""The one contract that every method of training shares, whatever its extension point."""

from __future__ import annotations

from typing import ClassVar

from lavatube.train.recipe_model import Strict


class Plugin(Strict):
    """A method: its settings are its fields, its row in `lavatube.train.extension_points` makes it known to recipes.

    kind:    the name in a recipe.
    source:  paper and equation, or who chose it.
    needs:   capabilities that the *exported* network has to find on the target because of this method.
    Whatever a method adds for training (heads, statistics tables, masks) is gone after `SpikingNetwork.finalize`; the
    network's outputs in evaluation mode do not change by it.
    """

    kind: str
    source: ClassVar[str] = ""

    @property
    def needs(self) -> frozenset[str]:
        return frozenset()
