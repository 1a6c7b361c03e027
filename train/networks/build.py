"""From a recipe, or a finished run, to its network."""

from __future__ import annotations

import numpy as np
import torch

from lavatube.errors import LavatubeError
from lavatube.train.networks.network import Parts, SpikingNetwork
from lavatube.train.recipe import Recipe, parse_recipe
from lavatube.trained import TrainedNetwork


def build_network(recipe: Recipe, shape: tuple[int, ...], classes: int) -> SpikingNetwork:
    """The network of a recipe for samples of `shape`, initialised from the recipe's seed alone.

    raises: LavatubeError if a layer does not fit its input or the read-out does not fit the classes.
    """
    parts = Parts(shape, classes, recipe.num_steps, recipe.neuron, recipe.normalization)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = recipe.network.build(parts, where=f"recipe {recipe.name}")
    network.name_parts()
    return network


def finalized(network: SpikingNetwork, recipe: Recipe) -> SpikingNetwork:
    """The same network without what its methods added for training, in evaluation mode."""
    for method in recipe.methods:
        method.finalize(network)
    return network.eval()


def load_network(trained: TrainedNetwork, shape: tuple[int, ...], classes: int) -> SpikingNetwork:
    """The torch network of a finished run, in evaluation mode. shape, classes: of its data set.

    raises: LavatubeError if recipe and tensors do not belong together or hold NaN.
    """
    recipe = parse_recipe(dict(trained.recipe), where="recipe of the run")
    network = finalized(build_network(recipe, shape, classes), recipe)
    got = {name: tuple(value.shape) for name, value in trained.tensors.items()}
    for method in recipe.methods:
        method.resize(network, got)
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    for name in sorted({*wanted, *got}):
        if wanted.get(name) != got.get(name):
            shapes = (str(group.get(name, "nothing")) for group in (wanted, got))
            expected, found = shapes
            raise LavatubeError(f"tensor {name} does not fit the recipe", where="model", expected=expected, got=found)
    broken = [name for name, value in trained.tensors.items() if not np.isfinite(value).all()]
    if broken:
        raise LavatubeError("weights hold NaN or infinity", where="model", got=", ".join(broken))
    network.load_state_dict({name: torch.tensor(value) for name, value in trained.tensors.items()})
    return network
