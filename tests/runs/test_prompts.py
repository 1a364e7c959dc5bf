"""Captions from the kinds of files that people have."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vvsbench.composition import composed
from vvsbench.runs.prompts import PromptsError, enough, read_captions, texts

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
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_lines_lists_and_cocos_annotations_are_captions(tmp_path):
    assert read_captions(written(tmp_path, "a.txt", "one\n two \n\n \n")) == ["one", "two"]
    assert read_captions(written(tmp_path, "a.json", '["one", "two "]')) == ["one", "two"]
    longest = read_captions(written(tmp_path, "captions_val2017.json", json.dumps(COCO)))
    assert longest == ["A cat on a mat.", "Two dogs."]


@pytest.mark.parametrize("apart", ["\f", "\v", "\x1c", "\x85", "\u2028", "\u2029", "\r"])
def test_only_a_line_feed_ends_a_line(apart, tmp_path):
    assert read_captions(written(tmp_path, "a.txt", f"one{apart}cat\ntwo\n")) == [f"one{apart}cat", "two"]


def test_line_ends_of_windows_and_a_byte_order_mark_are_no_part_of_the_captions(tmp_path):
    text = b"\xef\xbb\xbfone\r\ntwo\r\n"
    assert read_captions(written(tmp_path, "a.txt", text)) == ["one", "two"]
    assert read_captions(written(tmp_path, "a.json", b'\xef\xbb\xbf["one"]')) == ["one"]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), min_size=1), min_size=1))
def test_any_captions_come_back_in_their_places(captions):
    captions = [caption.strip() or "blank" for caption in captions]
    captions[0] = captions[0].removeprefix("\ufeff") or "mark"
    with tempfile.TemporaryDirectory() as folder:
        assert read_captions(written(Path(folder), "a.txt", "\n".join(captions))) == captions


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.txt", "one\n\nthree\n", r"line 2 of .*a\.txt is blank"),
        ("a.txt", "\none\n", r"line 1 of .*a\.txt is blank"),
        ("a.txt", "one\n \t\r\nthree", r"line 2 of .*a\.txt is blank"),
        ("a.json", '["one", "two", " ", "four"]', r"caption 3 of .*a\.json is blank"),
    ],
)
def test_a_blank_line_would_move_what_follows_and_is_refused(name, text, said, tmp_path):
    with pytest.raises(PromptsError, match=said):
        read_captions(written(tmp_path, name, text))


def test_too_few_captions_are_refused_with_the_line_that_is_missing(tmp_path):
    enough(["a", "b"], tmp_path / "a.txt", 2)
    with pytest.raises(PromptsError, match=r"has captions for 2 of 5 images \(line 3 is missing\)"):
        enough(["a", "b"], tmp_path / "a.txt", 5)


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
        ("a.txt", "", "holds no caption"),
        ("a.txt", b"\xff\xfeo\x00", "cannot be read"),
    ],
)
def test_what_holds_no_captions_is_one_message(name, text, said, tmp_path):
    with pytest.raises(PromptsError, match=said):
        read_captions(written(tmp_path, name, text))


def test_a_class_is_told_in_the_words_of_its_models_data():
    assert texts(composed(["model=tiny"]), [0, 27]) == ["a red circle", "a green star"]
    assert texts(composed(["model=scenes"]), [0, 7]) == ["a circle", "two stars"]
    assert texts(composed(["model=llamagen_b_256"]), [0, 7]) == ["0", "7"]
