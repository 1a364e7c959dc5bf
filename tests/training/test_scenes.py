from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from vvsbench.quality.hue import concentration
from vvsbench.training import scenes, shapes

SOME = torch.tensor([0, 1, 7, 8, 63, 64, 999, 123_456, scenes.HELD_OUT_FIRST, scenes.HELD_OUT_FIRST + 5, 2**33 + 1])
MANY = torch.arange(400)


def test_an_image_is_a_function_of_its_index_alone() -> None:
    together, labels = scenes.render(SOME)
    backwards, _ = scenes.render(SOME.flip(0))
    alone = [scenes.render(index[None]) for index in SOME]
    assert torch.equal(together, backwards.flip(0))
    assert torch.equal(together, torch.cat([image for image, _ in alone]))
    assert torch.equal(labels, torch.cat([label for _, label in alone]))


def test_the_pictures_are_those_that_the_zoo_was_trained_on() -> None:
    """Another sum is another data set: what was trained on this one is then worth nothing."""
    images, labels = scenes.render(MANY[:32])
    weights = torch.arange(images.numel()) % 251
    assert int(labels.sum()) == 252
    assert int((images.flatten() * weights).sum()) == pytest.approx(
        3_843_100_214, rel=1e-6
    )  # a pixel may round otherwise


def test_indices_and_seeds_give_different_images() -> None:
    images, _ = scenes.render(torch.cat([MANY[:200], MANY[:200] + scenes.HELD_OUT_FIRST]))
    assert len({image.numpy().tobytes() for image in images}) == 400
    assert not torch.equal(images[:200], scenes.render(MANY[:200], seed=1)[0])


def test_labels_need_no_drawing_and_are_uniform() -> None:
    assert torch.equal(scenes.render(MANY)[1], scenes.labels_of(MANY))
    counts = torch.bincount(scenes.labels_of(torch.arange(16_000)), minlength=scenes.NUM_CLASSES)
    assert float(((counts - 1000.0) ** 2 / 1000).sum()) < 48  # 15 degrees of freedom: about 1 in 40,000
    balanced = scenes.labels_of(scenes.balanced(scenes.HELD_OUT_FIRST, 40))
    assert balanced.tolist() == [number % scenes.NUM_CLASSES for number in range(40)]


def test_a_class_is_shape_and_number() -> None:
    assert scenes.CLASS_NAMES[2 * scenes.SHAPES.index("star")] == "a star"
    assert scenes.CLASS_NAMES[2 * scenes.SHAPES.index("cross") + 1] == "two crosses"
    assert len(set(scenes.CLASS_NAMES)) == scenes.NUM_CLASSES == 16
    assert not set(scenes.CLASS_NAMES) & set(shapes.CLASS_NAMES)


def painted(indices: Tensor, size: int = 48) -> np.ndarray:
    """Which pixels an object covers, bool [B, S, S]: the strongly coloured ones."""
    red, green, blue = (scenes.render(indices, size)[0].double() / 255).unbind(1)
    return (torch.hypot(red - (green + blue) / 2, (green - blue) * 3**0.5 / 2) > 0.25).numpy()


def parts(mask: np.ndarray) -> int:
    """Connected parts of a mask that are larger than a few pixels."""
    from scipy.ndimage import label

    found, count = label(mask)
    return sum(int((found == number).sum() > 12) for number in range(1, count + 1))


@pytest.mark.parametrize(("number", "least"), [(0, 1), (1, 2)])
def test_there_are_as_many_objects_as_the_class_says(number: int, least: int) -> None:
    chosen = MANY[scenes.labels_of(MANY) == 2 * scenes.SHAPES.index("circle") + number]
    assert [parts(mask) for mask in painted(chosen, 96)] == [least] * len(chosen)


def test_objects_are_not_cut_by_the_frame() -> None:
    """A tip may reach the outermost pixels."""
    border = np.ones((48, 48), dtype=bool)
    border[1:-1, 1:-1] = False
    assert np.bincount(painted(MANY)[:, border].sum(axis=1) > 2).tolist() == [396, 4]


def test_a_picture_has_one_hue_and_a_set_has_all() -> None:
    images = scenes.render(MANY)[0].numpy()
    assert concentration(images).mean() > 0.98
    side_by_side = np.concatenate(list(images[:64]), axis=2)[None]
    assert concentration(side_by_side)[0] < 0.3


def test_captions_say_what_is_there() -> None:
    """Class, material and the name of the colour that the object has."""
    captions = scenes.captions(MANY)
    names = [scenes.CLASS_NAMES[label] for label in scenes.labels_of(MANY).tolist()]
    images, masks = scenes.render(MANY)[0].double() / 255, torch.from_numpy(painted(MANY))
    for caption, name, image, mask in zip(captions, names, images, masks, strict=True):
        number, colour, shape, _, ground = caption.split(" ")
        assert f"{number.replace('an', 'a')} {shape}" == name
        assert ground in scenes.MATERIALS
        red, green, blue = image[:, mask].mean(1).tolist()
        turn = float(np.arctan2((green - blue) * 3**0.5 / 2, red - (green + blue) / 2) / (2 * np.pi) % 1)
        ends = [end for end, named in scenes.HUES if named == colour]
        starts = [
            ([0.0] + [end for end, _ in scenes.HUES])[place] for place, (_, n) in enumerate(scenes.HUES) if n == colour
        ]
        near = [
            low - 0.03 <= turn + shift <= high + 0.03
            for low, high in zip(starts, ends, strict=True)
            for shift in (-1, 0, 1)
        ]
        assert any(near), (caption, turn)
    assert {caption.split(" ")[1] for caption in captions} == {name for _, name in scenes.HUES}
    assert {caption.split(" ")[4] for caption in captions} == set(scenes.MATERIALS)


def test_attributes_say_what_the_class_leaves_open() -> None:
    said = scenes.attributes(MANY)
    assert said.shape == (400, 18)
    assert float(said.abs().max()) <= 1
    hue = torch.atan2(said[:, 2], said[:, 3]) / (2 * np.pi) % 1
    red = [index for index, caption in enumerate(scenes.captions(MANY)) if " red " in caption]
    assert all(min(float(turn), 1 - float(turn)) <= 0.051 for turn in hue[red])


def test_other_sizes_show_the_same_picture() -> None:
    small, _ = scenes.render(MANY[:32], size=48)
    large, _ = scenes.render(MANY[:32], size=96)
    averaged = torch.nn.functional.avg_pool2d(large.float(), 2)
    assert (averaged - small.float()).abs().mean() < 4
