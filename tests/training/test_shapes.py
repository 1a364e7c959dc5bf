from __future__ import annotations

import torch

from vvsbench.training import shapes

SOME = torch.tensor([0, 1, 7, 8, 63, 64, 999, 123_456, shapes.HELD_OUT_FIRST, shapes.HELD_OUT_FIRST + 5, 2**33 + 1])


def test_an_image_is_a_function_of_its_index_alone() -> None:
    together, labels = shapes.render(SOME)
    backwards, _ = shapes.render(SOME.flip(0))
    alone = [shapes.render(index[None]) for index in SOME]
    assert torch.equal(together, backwards.flip(0))
    assert torch.equal(together, torch.cat([image for image, _ in alone]))
    assert torch.equal(labels, torch.cat([label for _, label in alone]))


def test_indices_and_seeds_give_different_images() -> None:
    images, _ = shapes.render(torch.cat([torch.arange(200), torch.arange(200) + shapes.HELD_OUT_FIRST]))
    assert len({image.numpy().tobytes() for image in images}) == 400
    other, _ = shapes.render(torch.arange(200), seed=1)
    assert not torch.equal(images[:200], other)


def test_labels_need_no_drawing_and_are_uniform() -> None:
    indices = torch.arange(1000)
    assert torch.equal(shapes.render(indices)[1], shapes.labels_of(indices))
    counts = torch.bincount(shapes.labels_of(torch.arange(64_000)), minlength=64)
    chi_square = float(((counts - 1000.0) ** 2 / 1000).sum())
    assert chi_square < 120  # 63 degrees of freedom: about 1 in 50,000


def test_a_label_is_shape_and_colour() -> None:
    star = shapes.SHAPES.index("star") * len(shapes.COLOURS)
    assert shapes.CLASS_NAMES[star + shapes.COLOURS.index("red")] == "a red star"
    assert shapes.CLASS_NAMES[star + shapes.COLOURS.index("orange")] == "an orange star"
    assert len(set(shapes.CLASS_NAMES)) == shapes.NUM_CLASSES == 64


def test_objects_have_their_colour_and_stay_inside() -> None:
    """A solid object's middle has the colour of its class; no object touches the frame."""
    indices = torch.arange(2000)
    labels = shapes.labels_of(indices)
    solid = indices[(labels // 8 == shapes.SHAPES.index("circle")) & (labels % 8 == shapes.COLOURS.index("red"))]
    images = shapes.render(solid, size=64)[0].float() / 255
    red = (images[:, 0] > 0.6) & (images[:, 1] < 0.3) & (images[:, 2] < 0.3)
    assert (red.float().mean((1, 2)) > 0.15).all()
    border = torch.ones(64, 64, dtype=torch.bool)
    border[1:-1, 1:-1] = False
    assert not red[:, border].any()


def test_other_sizes_show_the_same_picture() -> None:
    small, _ = shapes.render(torch.arange(32), size=32)
    large, _ = shapes.render(torch.arange(32), size=64)
    averaged = torch.nn.functional.avg_pool2d(large.float(), 2)
    assert (averaged - small.float()).abs().mean() < 4
