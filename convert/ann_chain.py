"""The layers of a feed-forward artificial network, as a spiking chain has them: synapse, norm, activation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import fx, nn

from lavatube.errors import UnsupportedError

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.Hardtanh)
KNOWN = "Conv, Gemm or MatMul, then BatchNormalization, then Relu or Clip from 0; AveragePool before a layer; Flatten"


@dataclass
class AnnLayer:
    """pool: side of the average pooling before it; cap: the largest activation; activation: its module, or ""."""

    synapse: nn.Conv2d | nn.Linear
    pool: int = 1
    norm: nn.BatchNorm1d | nn.BatchNorm2d | None = None
    activation: str = ""
    cap: float = math.inf

    def folded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(weight, bias), float64, with the norm's running statistics."""
        weight = self.synapse.weight.detach().double()
        bias = weight.new_zeros(len(weight)) if self.synapse.bias is None else self.synapse.bias.detach().double()
        if self.norm is None:
            return weight, bias
        assert self.norm.running_var is not None
        assert self.norm.running_mean is not None
        gain = self.norm.weight.double() * torch.rsqrt(self.norm.running_var.double() + self.norm.eps)
        shift = self.norm.bias.double() - gain * self.norm.running_mean.double()
        return weight * gain.reshape(-1, *(1,) * (weight.ndim - 1)), bias * gain + shift


def ann_chain(model: fx.GraphModule, *, where: str) -> list[AnnLayer]:
    """The layers of what `read_onnx` gives, the last one without activation.

    raises: UnsupportedError, by name, for anything that a chain of integrate-and-fire neurons does not compute.
    """
    layers: list[AnnLayer] = []
    pool, shape = 1, model.meta["input_shape"]
    for node in model.graph.nodes:
        if node.op in ("placeholder", "output"):
            continue
        name = str(node.target)

        def refuse(what: str, got: str = "", name: str = name) -> UnsupportedError:
            return UnsupportedError(what, where=f"{where}: {name}", expected=KNOWN, got=got)

        if node.op != "call_module" or len(node.users) != 1:
            raise refuse("no chain of layers", "a sum" if node.op != "call_module" else f"{len(node.users)} users")
        module = model.get_submodule(name)
        after_synapse = bool(layers) and not layers[-1].activation
        if isinstance(module, nn.Conv2d | nn.Linear):
            if after_synapse:
                raise refuse("two layers with nothing rectified between")
            layers.append(AnnLayer(module, pool))
            pool = 1
            if isinstance(module, nn.Conv2d) and not _plain(module):
                raise refuse("a convolution", str(module))
        elif isinstance(module, NORMS) and after_synapse and layers[-1].norm is None:
            layers[-1].norm = module
        elif isinstance(module, ACTIVATIONS) and after_synapse:
            low, high = (0.0, math.inf) if isinstance(module, nn.ReLU) else (module.min_val, module.max_val)
            if low != 0:
                raise refuse("an activation", str(module))
            layers[-1].activation, layers[-1].cap = name, float(high)
        elif isinstance(module, nn.AvgPool2d | nn.AdaptiveAvgPool2d) and not after_synapse:
            pool *= _side(module, shape)
            if pool == 0:
                raise refuse("an average pool", f"{module} on {shape}")
        elif not isinstance(module, nn.Flatten):
            raise refuse("a layer in this place", type(module).__name__)
        shape = model.meta["shapes"][name]
    if not layers or layers[-1].activation or not isinstance(layers[-1].synapse, nn.Linear) or pool > 1:
        raise UnsupportedError(
            "a last layer", where=where, expected="Gemm or MatMul, without activation", got="another"
        )
    return layers


def _plain(conv: nn.Conv2d) -> bool:
    """Whether a recipe's conv2d is the same: one number for both sides, all channels, no holes."""
    sides = [conv.kernel_size, conv.stride, conv.padding]
    return conv.groups == 1 and conv.dilation == (1, 1) and all(len(set(side)) == 1 for side in sides)


def _side(pool: nn.Module, shape: tuple[int, ...]) -> int:
    """Of square windows of events of `shape` that neither overlap nor reach over the edge; 0 for another pool."""
    if isinstance(pool, nn.AdaptiveAvgPool2d):
        return shape[1] if shape[1] == shape[2] else 0
    kernel = pool.kernel_size
    side = int(kernel[0]) if isinstance(kernel, tuple) else int(kernel)  # type: ignore[arg-type]
    same = pool.stride == kernel == (side, side) and pool.padding in (0, (0, 0))
    return side if same and all(size % side == 0 for size in shape[1:]) else 0
