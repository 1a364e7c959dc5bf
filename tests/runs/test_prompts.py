"""Captions from the kinds of files that people have."""

from __future__ import annotations

import json

import pytest

from vvsbench.runs.prompts import PromptsError, read_captions

COCO = {
    "images": [{"id": 7}, {"id": 3}],
    "annotations": [
        {"image_id": 3, "caption": "A cat."},
        {"image_id": 7, "caption": "Two dogs."},
        {"image_id": 3, "caption": "A cat on a mat."},
        {"image_id": 3, "caption": "A mat on a cat."},
        {"image_id": 7, "caption": "Dogs."},
    ],
}


def written(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_lines_lists_and_cocos_annotations_are_captions(tmp_path):
    assert read_captions(written(tmp_path, "a.txt", "one\n\n two \n")) == ["one", "two"]
    assert read_captions(written(tmp_path, "a.json", '["one", "two "]')) == ["one", "two "]
    longest = read_captions(written(tmp_path, "captions_val2017.json", json.dumps(COCO)))
    assert longest == ["A cat on a mat.", "Two dogs."]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.json", "{", "cannot be read"),
        ("a.json", "[1, 2]", "must hold a JSON list of strings"),
        ("a.json", "3", "must hold a JSON list of strings"),
        ("instances_val2017.json", '{"annotations": [{"image_id": 1, "bbox": []}]}', "captions_"),
        ("a.json", '{"prompts": []}', "captions_"),
        ("a.json", '{"annotations": []}', "holds no caption"),
        ("a.txt", " \n", "holds no caption"),
    ],
)
def test_what_holds_no_captions_is_one_message(name, text, said, tmp_path):
    with pytest.raises(PromptsError, match=said):
        read_captions(written(tmp_path, name, text))
