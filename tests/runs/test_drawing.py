"""Drawing gives every image its own prompt, whatever shard and batch it is drawn in."""

from __future__ import annotations

import pytest

CLASSES = [3, 1, 2]


@pytest.mark.parametrize("size", ["shard_size=4", "shard_size=3", "shard_size=10"])
@pytest.mark.parametrize("rows", ["batch_size=2", "batch_size=3"])
def test_an_image_is_drawn_for_the_prompt_of_its_index(make_cell, decoder, size, rows):
    make_cell(f"prompts.classes={CLASSES}", size, rows).run()
    assert decoder.asked == {image: CLASSES[image % len(CLASSES)] for image in range(10)}


def test_the_trace_names_the_prompt_that_was_drawn(make_cell, decoder, tmp_path):
    from vvsbench.runs.store import Store

    make_cell(f"prompts.classes={CLASSES}").run()
    (stored,) = Store(tmp_path).cells("single")
    assert stored.trace["prompt"].tolist() == [str(decoder.asked[image]) for image in range(10)]
