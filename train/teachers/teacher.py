"""A frozen network that shows what it makes of a batch: logits and features, without gradient."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from lavatube.errors import LavatubeError
from lavatube.files import sha256_of_arrays
from lavatube.train.networks.network import SpikingNetwork
from lavatube.train.seq import Lesson


class Teacher:
    """Not a torch module: what holds it neither trains nor saves it. It works on a copy, in evaluation mode.

    shapes: of one sample of each feature that it can show. raises: LavatubeError if it does not fit samples or classes.
    """

    shapes: Mapping[str, tuple[int, ...]]

    def __init__(self, module: nn.Module, shape: tuple[int, ...], classes: int, where: str) -> None:
        if not isinstance(module, nn.Module):
            what, remedy = "a teacher that is no torch module", "wrap it in a torch.nn.Module"
            raise LavatubeError(what, where=where, expected="torch.nn.Module", got=type(module).__name__, remedy=remedy)
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.where, self._shown = where, set[str]()
        try:
            with torch.no_grad():
                lesson = self._look(torch.zeros(1, 1, *shape), None)
        except Exception as error:  # whatever the code of others raises
            got = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise LavatubeError("a teacher for other samples", where=where, expected=str(shape), got=got) from error
        logits = lesson.logits
        if not isinstance(logits, torch.Tensor) or tuple(logits.shape) != (1, classes):
            got = str(tuple(logits.shape)) if isinstance(logits, torch.Tensor) else type(logits).__name__
            raise LavatubeError("a teacher of other classes", where=where, expected=f"logits (1, {classes})", got=got)
        self.shapes = {name: tuple(value.shape[1:]) for name, value in lesson.features.items()}

    def _look(self, steps: torch.Tensor, shown: Collection[str] | None) -> Lesson:
        """shown: the features wanted; None: all there are."""
        raise NotImplementedError

    def show(self, feature: str) -> tuple[int, ...]:
        """From now on lessons hold this feature; returns the shape of one sample. raises: LavatubeError."""
        if feature not in self.shapes:
            expected = "one of: " + ", ".join(self.shapes)
            raise LavatubeError("the teacher has no such feature", where=self.where, expected=expected, got=feature)
        self._shown.add(feature)
        return self.shapes[feature]

    @torch.no_grad()
    def __call__(self, steps: torch.Tensor) -> Lesson:
        """The lesson about events [T or 1, B, ...], float32, on the teacher's device.

        raises: LavatubeError if something in it is not finite.
        """
        lesson = self._look(steps, self._shown)
        features = {name: value.float() for name, value in lesson.features.items()}
        for name, value in (("logits", lesson.logits), *features.items()):
            if not bool(torch.isfinite(value).all()):
                raise LavatubeError(f"the teacher's {name} are not finite", where=self.where, remedy="another teacher")
        return Lesson(lesson.logits.float(), features)

    def to(self, device: torch.device) -> Teacher:
        self.module.to(device)
        return self

    def sha256(self) -> str:
        """Of its parameters and statistics, in hex: what they are is part of what a run depends on."""
        return sha256_of_arrays({name: value.cpu().numpy() for name, value in self.module.state_dict().items()})


class SpikingTeacher(Teacher):
    """A network of ours. Features: mean spikes (or currents) of stages and populations.

    And a population's voltages before the reset, as NAME.u [B, T, ...].
    """

    def _look(self, steps: torch.Tensor, shown: Collection[str] | None) -> Lesson:
        network = self.module
        assert isinstance(network, SpikingNetwork)
        if network.num_steps == 1:
            steps = steps.mean(0, keepdim=True)
        for population in network.populations():
            population.shown = shown is None or f"{population.name}.u" in shown
        outputs = network(steps)
        voltages = {f"{name}.u": u.transpose(0, 1) for name, u in outputs.voltages.items()}
        features = {**outputs.rates, **outputs.taps, **voltages}
        return Lesson(outputs.logits, {name: features[name] for name in (features if shown is None else shown)})


class PlainTeacher(Teacher):
    """Any torch module from images to logits. Features: outputs of its submodules; the last, of one that runs often.

    whole: the value of the largest event; mean, std: one number or one per channel, of events with `whole` as 1.
    """

    def __init__(
        self, module: nn.Module, shape: tuple[int, ...], classes: int, where: str, *,
        whole: float = 1.0, mean: Sequence[float] = (0.0,), std: Sequence[float] = (1.0,),
    ) -> None:  # fmt: skip
        for name, values in (("mean", mean), ("std", std)):
            if len(values) not in (1, shape[0]):
                expected, got = f"one number, or {shape[0]}", str(len(values))
                raise LavatubeError(f"{name} of the teacher's input", where=where, expected=expected, got=got)
        column = (-1, *(1,) * (len(shape) - 1))
        self._mean, self._std = (torch.tensor(values).reshape(column) for values in (mean, std))
        self._whole = whole
        super().__init__(module, shape, classes, where)

    def to(self, device: torch.device) -> Teacher:
        self._mean, self._std = self._mean.to(device), self._std.to(device)
        return super().to(device)

    def _look(self, steps: torch.Tensor, shown: Collection[str] | None) -> Lesson:
        features: dict[str, torch.Tensor] = {}

        def keep(name: str) -> Callable[..., None]:
            def hook(module: nn.Module, inputs: Any, output: Any) -> None:
                if isinstance(output, torch.Tensor) and output.ndim > 1:
                    features[name] = output.clone()  # what follows may work in place

            return hook

        with ExitStack() as hooks:
            for name, module in self.module.named_modules():
                if name and (shown is None or name in shown):
                    handle = module.register_forward_hook(keep(name))
                    hooks.callback(handle.remove)
            logits = self.module((steps.mean(0) / self._whole - self._mean) / self._std)
        return Lesson(logits, features)
