"""The one contract that every method of training shares, whatever its extension point."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from lavatube.train.recipe_model import Strict

if TYPE_CHECKING:
    from lavatube.train.networks.network import SpikingNetwork
    from lavatube.train.probe import Probe


class Plugin(Strict):
    """A method: its settings are its fields, its row in `lavatube.train.extension_points` makes it known to recipes.

    kind:    the name in a recipe.
    source:  paper and equation, or who chose it.
    needs_teacher: whether it learns from the network that the recipe's `teacher` names.
    needs:   capabilities that the *exported* network has to find on the target because of this method.
    A method may hook into the network in `attach`. Whatever it adds for training (heads, statistics tables, masks) is
    gone after `finalize`; the network's outputs in evaluation mode do not change by it.
    """

    kind: str
    source: ClassVar[str] = ""
    needs_teacher: ClassVar[bool] = False

    @property
    def needs(self) -> frozenset[str]:
        return frozenset()

    def attach(self, network: SpikingNetwork) -> None:
        """Before training, once; raises: LavatubeError if the method is not for such a network."""

    def before_epoch(self, network: SpikingNetwork, probe: Callable[[], Probe]) -> None:
        """Before each epoch of training. probe: makes a batch to try things on; the same after a resume.

        What a method keeps from epoch to epoch is a buffer of the network, so that checkpoints hold it.
        """

    def finalize(self, network: SpikingNetwork) -> None:
        """After training: fold or drop whatever `attach` added. Doing it twice changes nothing."""
