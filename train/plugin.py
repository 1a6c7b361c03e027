"""The one contract that every method of training shares, whatever its extension point."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lavatube.train.recipe_model import Strict

if TYPE_CHECKING:
    import torch

    from lavatube.train.networks.network import SpikingNetwork
    from lavatube.train.probe import Probe


@dataclass(frozen=True)
class Step:
    """An optimisation step. number: from 0, of `total` in the whole run.

    inputs: this process's share of the batch; see `SpikingNetwork.present`.
    generator: for what a method draws in this step; the same on every process and after a resume.
    """

    number: int
    total: int
    inputs: torch.Tensor
    generator: torch.Generator
    optimizer: torch.optim.Optimizer


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

    def before_update(self, network: SpikingNetwork, step: Step) -> None:
        """In every step of training, when the gradients are there (averaged over processes) and not yet used."""

    def finalize(self, network: SpikingNetwork) -> None:
        """After training: fold or drop whatever `attach` added. Doing it twice changes nothing."""

    def resize(self, network: SpikingNetwork, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Before the tensors of a finished run are loaded: the shapes that `finalize` left, if it changes any.

        shapes: by name in `state_dict`, from a file, unchecked: what does not fit is left to the caller to refuse.
        """
