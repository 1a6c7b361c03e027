"""Device, mixed precision and several processes, by Hugging Face accelerate; one process without it.

Gradients are averaged by hand after a rule's last backward, not by a DistributedDataParallel wrapper: rules may run the
network many times per step, or parts of it. Each process holds an equal share of every batch and the norms average
their moments, so that N processes compute what one does, up to the order of floating-point sums.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import nn

from lavatube.errors import LavatubeError
from lavatube.train.device import torch_device

Precision = Literal["float32", "bf16", "fp16"]


class Processes:
    """One process on one device, in float32."""

    def __init__(self, device: str = "cpu") -> None:
        self.device = torch_device(device)

    share: tuple[int, int] = (0, 1)
    scaler: torch.amp.GradScaler | None = None  # of losses in fp16

    @property
    def scales_loss(self) -> bool:
        return self.scaler is not None

    @property
    def is_main(self) -> bool:
        return self.share[0] == 0

    def autocast(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def backward(self, loss: torch.Tensor) -> None:
        scaled = loss if self.scaler is None else self.scaler.scale(loss)
        scaled.backward()  # type: ignore[no-untyped-call]

    def average_gradients(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Over processes, after the last backward of a step; then they are no longer scaled."""
        if self.scaler is not None:
            self.scaler.unscale_(optimizer)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        if self.scaler is None:
            optimizer.step()
            return
        self.scaler.step(optimizer)
        self.scaler.update()

    def mean(self, value: float) -> float:
        """Over processes."""
        return value

    def wait(self) -> None:
        """Until every process is here."""


class AcceleratedProcesses(Processes):
    """As many processes as `torchrun` started (`gloo` on CPUs), with autocast and loss scaling where asked for."""

    def __init__(self, device: str, precision: Precision) -> None:
        try:
            from accelerate import Accelerator
        except ImportError as error:
            raise LavatubeError(
                "mixed precision and several processes need accelerate", remedy="pip install 'lavatube[train]'"
            ) from error
        wanted = torch_device(device)
        if precision == "fp16" and wanted.type == "cpu":  # accelerate would train in float32 without a word
            raise LavatubeError("precision fp16 needs a GPU", where="train", expected="bf16 or float32", got=device)
        mode = "no" if precision == "float32" else precision
        try:
            self.accelerator = Accelerator(mixed_precision=mode, cpu=device == "cpu")
        except (ValueError, RuntimeError) as error:
            raise LavatubeError("precision", where="train", expected="one this device has", got=str(error)) from error
        super().__init__(str(self.accelerator.device))
        if self.device.type != wanted.type or (wanted.index is not None and wanted.index != self.device.index):
            raise LavatubeError(
                "accelerate chose another device",
                where="train",
                expected=device,
                got=str(self.device),
                remedy="name cuda, and choose the GPU by CUDA_VISIBLE_DEVICES",
            )
        self.share = self.accelerator.process_index, self.accelerator.num_processes
        self.scaler = self.accelerator.scaler

    def autocast(self) -> AbstractContextManager[Any]:
        context: AbstractContextManager[Any] = self.accelerator.autocast()
        return context

    def average_gradients(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        if self.share[1] > 1:
            for parameter in model.parameters():
                if parameter.grad is None:  # the same on every process: dead code paths have no gradient anywhere
                    continue
                dist.all_reduce(parameter.grad)
                parameter.grad /= self.share[1]
        super().average_gradients(model, optimizer)

    def mean(self, value: float) -> float:
        if self.share[1] == 1:
            return value
        total = torch.tensor([value], dtype=torch.float64)
        total = total.to(self.device)
        dist.all_reduce(total)
        return float(total) / self.share[1]

    def wait(self) -> None:
        self.accelerator.wait_for_everyone()


def make_processes(device: str, precision: Precision) -> Processes:
    """What the environment and the recipe ask for. raises: LavatubeError for a device or precision that is not here."""
    if precision == "float32" and int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes(device)
    return AcceleratedProcesses(device, precision)
