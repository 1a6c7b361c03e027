"""Random changes of training images, drawn from the epoch's own generator: repeatable, and the same after a resume."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import nn

from lavatube.errors import LavatubeError
from lavatube.train.recipe_model import Natural, Strict

Change = Callable[[torch.Tensor], torch.Tensor]
FILL = 128  # of what auto_augment moves into view: as in arXiv 2410.11488's code


class Augment(Strict):
    """shift: pixels by which images move at random each way; flip: whether half of them are mirrored left to right.

    auto_augment: a published AutoAugment policy, by torchvision (Cubuk, Zoph, Mane, Vasudevan, Le, CVPR 2019), one draw
    per image.
    cutout: side in pixels of a square of zeros per image, its centre anywhere (DeVries, Taylor, arXiv 1708.04552).
    rotate: degrees, up to 180, by which images turn at random each way about their middle (nearest pixel, zero filled).
    one_of: each image gets one at random of shift, rotate and cutout (those that are set) in place of all of them.
    A sequence of frames moves, turns, mirrors and loses its square as a whole.
    """

    shift: Natural = 0
    flip: bool = False
    auto_augment: Literal["cifar10", "imagenet", "svhn"] | None = None
    cutout: Natural = 0
    rotate: Annotated[int, Field(ge=0, le=180)] = 0
    one_of: bool = False

    def __bool__(self) -> bool:
        return bool(self.shift or self.flip or self.auto_augment or self.cutout or self.rotate or self.one_of)

    def check(self, sample_shape: tuple[int, ...], *, is_sequence: bool, where: str) -> None:
        """raises: LavatubeError if such samples (the shape of one timestep) cannot be changed so."""
        if not self:
            return
        if len(sample_shape) < 3:
            what = "shift, rotate, flip, auto_augment and cutout are for images"
            raise LavatubeError(what, where="recipe data", got=where)
        side = min(sample_shape[-2:])
        for what in ("shift", "cutout"):
            if getattr(self, what) >= side:
                raise LavatubeError(
                    f"{what} can blank a whole image", where="recipe data", expected=f"below {side} pixels",
                    got=str(getattr(self, what)),
                )  # fmt: skip
        chosen = [name for name in ("shift", "rotate", "cutout") if getattr(self, name)]
        if self.one_of and len(chosen) < 2:
            raise LavatubeError(
                "one_of chooses among changes", where="recipe data", expected="two of shift, rotate and cutout, or all",
                got=", ".join(chosen) or "none",
            )  # fmt: skip
        if self.auto_augment is not None and (is_sequence or sample_shape[0] not in (1, 3)):
            raise LavatubeError(
                "auto_augment is for still images in grey or colour", where="recipe data", got=where,
                remedy="use shift, flip and cutout",
            )  # fmt: skip

    def __call__(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """images: uint8 [B, ..., H, W]; shift, rotate, flip, auto_augment, cutout (the order of the published recipes).

        With one_of: flip, auto_augment, then the one.
        """
        moves: list[Change] = [lambda x: shifted(x, self.shift, generator)] if self.shift else []
        if self.rotate:
            moves.append(lambda x: rotated(x, self.rotate, generator))
        cuts: list[Change] = [lambda x: cut_out(x, self.cutout, generator)] if self.cutout else []
        for change in () if self.one_of else moves:
            images = change(images)
        images = mirrored(images, generator) if self.flip else images
        images = auto_augmented(images, self.auto_augment, generator) if self.auto_augment else images
        if self.one_of:
            return one_each(images, [*moves, *cuts], generator)
        for change in cuts:
            images = change(images)
        return images


def one_each(images: torch.Tensor, changes: list[Change], generator: torch.Generator) -> torch.Tensor:
    """Each image (or sequence of images) changed by one of these, chosen at random."""
    choice = torch.randint(0, len(changes), (len(images),), generator=generator)
    for index, change in enumerate(changes):
        images = torch.where(_per_image(choice == index, images), change(images), images)
    return images


def shifted(images: torch.Tensor, pixels: int, generator: torch.Generator) -> torch.Tensor:
    """Each image (or sequence of images) moved by its own -pixels..pixels in x and y, zero filled."""
    height, width = images.shape[-2:]
    moves = torch.randint(0, 2 * pixels + 1, (len(images), 2), generator=generator)
    flat = nn.functional.pad(images.reshape(len(images), -1, height, width), (pixels,) * 4).permute(0, 2, 3, 1)
    rows = moves[:, 0, None, None] + torch.arange(height)[None, :, None]
    columns = moves[:, 1, None, None] + torch.arange(width)[None, None, :]
    sample = torch.arange(len(images))[:, None, None]
    return flat[sample, rows, columns].permute(0, 3, 1, 2).reshape(images.shape)


def rotated(images: torch.Tensor, degrees: int, generator: torch.Generator) -> torch.Tensor:
    """Each image (or sequence of images) turned by its own -degrees..degrees about its middle, zero filled."""
    height, width = images.shape[-2:]
    angle = (2 * torch.rand(len(images), generator=generator) - 1) * math.radians(degrees)
    sin, cos, zero = angle.sin(), angle.cos(), torch.zeros_like(angle)
    # of grid_sample, whose axes run from -1 to 1 whatever the sides
    rows = torch.stack([cos, -sin * height / width, zero], 1), torch.stack([sin * width / height, cos, zero], 1)
    flat = images.reshape(len(images), -1, height, width).float()
    grid = nn.functional.affine_grid(torch.stack(rows, 1), list(flat.shape), align_corners=False)
    turned = nn.functional.grid_sample(flat, grid, mode="nearest", align_corners=False)
    return turned.to(images.dtype).reshape(images.shape)


def mirrored(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Half of the images, chosen at random, mirrored left to right."""
    chosen = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(_per_image(chosen, images), images.flip(-1), images)


def auto_augmented(images: torch.Tensor, policy: str, generator: torch.Generator) -> torch.Tensor:
    """Each image [B, C, H, W] by its own draw of the policy. raises: LavatubeError without torchvision."""
    try:
        from torchvision.transforms import AutoAugment, AutoAugmentPolicy
    except ImportError as error:
        raise LavatubeError("auto_augment needs a package", remedy="pip install torchvision") from error
    transform: Any = AutoAugment(AutoAugmentPolicy(policy), fill=[FILL] * images.shape[1])
    seed = int(torch.randint(0, 1 << 62, (1,), generator=generator))
    with torch.random.fork_rng(devices=[]):  # torchvision draws from torch's global generator
        torch.manual_seed(seed)
        return torch.stack([transform(image) for image in images])


def cut_out(images: torch.Tensor, side: int, generator: torch.Generator) -> torch.Tensor:
    """Zeros in a square of `side` pixels per image; what of it lies outside the image is lost."""
    keep = torch.zeros(len(images), *images.shape[-2:], dtype=torch.bool)
    for axis, size in ((1, images.shape[-2]), (2, images.shape[-1])):
        start = torch.randint(0, size, (len(images), 1), generator=generator) - side // 2
        places = torch.arange(size)
        outside = (places < start) | (places >= start + side)
        keep |= outside.unsqueeze(2 if axis == 1 else 1)
    return images * keep.reshape(len(images), *(1,) * (images.ndim - 3), *keep.shape[1:])


def _per_image(value: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    return value.reshape(-1, *(1,) * (images.ndim - 1))
