"""Random changes of training images."""

from __future__ import annotations

import pytest
import torch

from lavatube.errors import LavatubeError
from lavatube.train.augment import Augment, cut_out, mirrored, rotated, shifted


def test_half_of_the_images_are_mirrored_and_no_other_changes() -> None:
    image = torch.arange(12, dtype=torch.uint8).reshape(1, 1, 3, 4)
    out = mirrored(image.repeat(400, 1, 1, 1), torch.Generator().manual_seed(0))
    flipped = (out == image.flip(-1)).flatten(1).all(1)
    kept = (out == image).flatten(1).all(1)
    assert torch.equal(flipped, ~kept)
    assert 150 < int(flipped.sum()) < 250


def test_shifts_reach_all_nine_places_and_fill_with_zeros() -> None:
    image = torch.zeros(1, 2, 5, 5)
    image[0, 0, 2, 2], image[0, 1, 0, 0] = 1, 2
    moved = shifted(image.repeat(200, 1, 1, 1), 1, torch.Generator().manual_seed(0))
    assert set(moved[:, 0].sum((1, 2)).tolist()) == {1.0}
    places = {divmod(int(flat), 5) for flat in moved[:, 0].flatten(1).argmax(1)}
    assert places == {(row, column) for row in (1, 2, 3) for column in (1, 2, 3)}
    # channels move together, so a corner pixel is lost exactly when its image moves up or left
    up_or_left = (moved[:, 0, 1].sum(1) + moved[:, 0, :, 1].sum(1)) > 0
    assert torch.equal(moved[:, 1].sum((1, 2)) == 0, up_or_left)


def test_cut_out_removes_one_square_that_the_border_may_cut() -> None:
    images = torch.full((300, 3, 9, 7), 200, dtype=torch.uint8)
    out = cut_out(images, 4, torch.Generator().manual_seed(0))
    gone = out[:, 0] == 0
    assert all(torch.equal(out[:, channel] == 0, gone) for channel in range(3))
    assert torch.equal(out[:, 0][~gone], images[:, 0][~gone])
    heights, widths = gone.any(2).sum(1), gone.any(1).sum(1)
    assert torch.equal(gone.sum((1, 2)), heights * widths)
    assert set(heights.tolist()) == set(widths.tolist()) == {2, 3, 4}


def test_sequences_are_changed_as_a_whole() -> None:
    frames = torch.arange(8 * 8, dtype=torch.uint8).reshape(1, 1, 1, 8, 8).repeat(50, 6, 2, 1, 1)
    out = Augment(shift=2, flip=True, cutout=3)(frames, torch.Generator().manual_seed(0))
    assert torch.equal(out, out[:, :1, :1].expand_as(out))
    assert not torch.equal(out[0], out[1])


def test_auto_augment_is_repeatable_and_leaves_the_global_generator_alone() -> None:
    pytest.importorskip("torchvision")
    images = torch.randint(0, 256, (16, 3, 12, 12), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    before = torch.get_rng_state()
    settings = Augment(auto_augment="cifar10")
    a, b = (settings(images, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(a, b)
    assert torch.equal(torch.get_rng_state(), before)
    changed = (a != images).flatten(1).any(1)
    assert changed.any()
    assert not torch.equal(a, settings(images, torch.Generator().manual_seed(6)))


@pytest.mark.parametrize(
    ("settings", "shape", "is_sequence", "message"),
    [
        ({"shift": 1}, (13,), False, "are for images"),
        ({"auto_augment": "cifar10"}, (2, 8, 8), True, "still images"),
        ({"auto_augment": "imagenet"}, (2, 8, 8), False, "still images"),
        ({"cutout": 8}, (1, 8, 8), False, "cutout can blank a whole image"),
        ({"shift": 9}, (1, 8, 12), False, "shift can blank a whole image"),
    ],
)
def test_samples_that_cannot_be_changed_so_are_refused(settings, shape, is_sequence, message) -> None:
    with pytest.raises(LavatubeError, match=message):
        Augment(**settings).check(shape, is_sequence=is_sequence, where="data x")
    Augment().check(shape, is_sequence=is_sequence, where="data x")


def test_turned_images_keep_their_middle_and_their_values_and_turn_both_ways() -> None:
    image = torch.zeros(1, 1, 9, 15, dtype=torch.uint8)
    image[..., 4, 7], image[..., 4, 10] = 1, 2  # the middle, and three pixels to the right of it
    out = rotated(image.repeat(300, 1, 1, 1), 90, torch.Generator().manual_seed(0))
    assert out.dtype == torch.uint8
    assert (out[..., 4, 7] == 1).all()
    assert set(out.unique().tolist()) == {0, 1, 2}
    rows, columns = torch.nonzero(out[:, 0] == 2)[:, 1:].T.double() - torch.tensor([[4.0], [7.0]])
    assert ((rows**2 + columns**2).sqrt() - 3).abs().max() < 0.75  # on a circle, whatever the sides of the image
    assert columns.min() >= 0  # no more than a quarter turn
    assert rows.min() == -3
    assert rows.max() == 3


def test_one_of_changes_each_image_in_one_way() -> None:
    images = torch.full((300, 2, 8, 8), 200, dtype=torch.uint8)
    settings = Augment(shift=3, cutout=2, one_of=True)
    gone = settings(images, torch.Generator().manual_seed(0))[:, 0] == 0
    count = gone.flatten(1).sum(1)
    squares = (count > 0) & (count <= 4)  # a shift leaves none or at least one line of 8 pixels
    shifts = gone[:, [0, -1]].all(2).any(1) | gone[:, :, [0, -1]].all(1).any(1) | (count == 0)
    assert torch.equal(squares, ~shifts)
    assert 100 < int(squares.sum()) < 200


@pytest.mark.parametrize("settings", [{"one_of": True}, {"one_of": True, "shift": 2, "flip": True}])
def test_one_of_needs_a_choice(settings: dict[str, object]) -> None:
    with pytest.raises(LavatubeError, match=r"one_of chooses among changes.*two of shift, rotate and cutout"):
        Augment.model_validate(settings).check((1, 8, 8), is_sequence=False, where="images")
