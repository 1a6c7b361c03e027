"""Random changes of training images, drawn from the epoch's own generator: repeatable, and the same after a resume."""

from __future__ import annotations

from typing import Any, Literal

import torch

from lavatube.errors import LavatubeError
from lavatube.train.recipe_model import Natural, Strict

FILL = 128  # of what auto_augment moves into view: as in arXiv 2410.11488's code


class Augment(Strict):
    """shift: pixels by which images move at random each way; flip: whether half of them are mirrored left to right.

    auto_augment: a published AutoAugment policy, by torchvision (Cubuk, Zoph, Mane, Vasudevan, Le, CVPR 2019), one draw
    per image.
    cutout: side in pixels of a square of zeros per image, its centre anywhere (DeVries, Taylor, arXiv 1708.04552).
    A sequence of frames moves, mirrors and loses its square as a whole.
    """

    shift: Natural = 0
    flip: bool = False
    auto_augment: Literal["cifar10", "imagenet", "svhn"] | None = None
    cutout: Natural = 0

    def __bool__(self) -> bool:
        return bool(self.shift or self.flip or self.auto_augment or self.cutout)

    def check(self, sample_shape: tuple[int, ...], *, is_sequence: bool, where: str) -> None:
        """raises: LavatubeError if such samples (the shape of one timestep) cannot be changed so."""
        if not self:
            return
        if len(sample_shape) < 3:
            raise LavatubeError("shift, flip, auto_augment and cutout are for images", where="recipe data", got=where)
        side = min(sample_shape[-2:])
        for what in ("shift", "cutout"):
            if getattr(self, what) >= side:
                raise LavatubeError(
                    f"{what} can blank a whole image", where="recipe data", expected=f"below {side} pixels",
                    got=str(getattr(self, what)),
                )  # fmt: skip
        if self.auto_augment is not None and (is_sequence or sample_shape[0] not in (1, 3)):
            raise LavatubeError(
                "auto_augment is for still images in grey or colour", where="recipe data", got=where,
                remedy="use shift, flip and cutout",
            )  # fmt: skip

    def __call__(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """images: uint8 [B, ..., H, W]; in the order of the published recipes: shift, flip, auto_augment, cutout."""
        images = shifted(images, self.shift, generator) if self.shift else images
        images = mirrored(images, generator) if self.flip else images
        images = auto_augmented(images, self.auto_augment, generator) if self.auto_augment else images
        return cut_out(images, self.cutout, generator) if self.cutout else images


def shifted(images: torch.Tensor, pixels: int, generator: torch.Generator) -> torch.Tensor:
    """Each image (or sequence of images) moved by its own -pixels..pixels in x and y, zero filled."""
    height, width = images.shape[-2:]
    moves = torch.randint(0, 2 * pixels + 1, (len(images), 2), generator=generator)
    flat = torch.nn.functional.pad(images.reshape(len(images), -1, height, width), (pixels,) * 4).permute(0, 2, 3, 1)
    rows = moves[:, 0, None, None] + torch.arange(height)[None, :, None]
    columns = moves[:, 1, None, None] + torch.arange(width)[None, None, :]
    sample = torch.arange(len(images))[:, None, None]
    return flat[sample, rows, columns].permute(0, 3, 1, 2).reshape(images.shape)


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
