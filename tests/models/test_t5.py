"""Caption features through a small T5 encoder built here: cleaned, encoded, rotated to end the prefix."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import T5Config, T5EncoderModel

from vvsbench.errors import CheckpointError, NotFiniteError
from vvsbench.models.t5 import T5Features, clean_caption, rotate_left


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("t5")
    words = {word: index for index, word in enumerate(["<pad>", "</s>", "<unk>", "a", "red", "star", "on", "grass"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    T5EncoderModel(T5Config(vocab_size=8, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)).save_pretrained(
        folder
    )
    return folder


def test_text_ends_the_prefix(encoder: Path) -> None:
    features, mask = T5Features(encoder, torch.device("cpu"), torch.float32, max_tokens=9)(["A RED star", "grass"])
    assert features.shape == (2, 9, 16)
    assert mask.sum(1).tolist() == [4, 2]
    assert mask[0, -4:].all()
    assert not mask[0, :-4].any()
    assert not features[~mask].any()
    alone, _ = T5Features(encoder, torch.device("cpu"), torch.float32, max_tokens=2)(["grass"])
    torch.testing.assert_close(features[1, -2:], alone[0])


def test_a_long_caption_is_cut_in_front_of_its_end_token_and_counted(encoder: Path) -> None:
    features = T5Features(encoder, torch.device("cpu"), torch.float32, max_tokens=4)
    captions = ["a red star", "a red star on grass", "grass " * 4, "star"]
    assert features.cut(captions) == 2
    assert features.cut([]) == 0
    (long, short), mask = features(["a red star on grass", "a red star"])
    assert mask.all()
    torch.testing.assert_close(long, short)


def test_features_that_are_not_finite_are_refused_by_their_caption(encoder: Path) -> None:
    features = T5Features(encoder, torch.device("cpu"), torch.float32, max_tokens=9)
    features.encoder.shared.weight.data[5] = float("nan")
    with pytest.raises(NotFiniteError, match="features of the text encoder .* at the caption 'star', in float32"):
        features(["grass", "star"])


def test_a_missing_encoder_says_what_to_put_where(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="flan-t5-xl"):
        T5Features(tmp_path / "nowhere", torch.device("cpu"), torch.float32)


def test_rotation_keeps_the_order_of_the_text() -> None:
    features = torch.arange(5.0)[None, :, None]
    rotated, mask = rotate_left(features, torch.tensor([[True, True, True, False, False]]))
    assert rotated[0, :, 0].tolist() == [0, 0, 0, 1, 2]
    assert mask[0].tolist() == [False, False, True, True, True]


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("A  Dog.", "a dog."),
        ("see https://example.org/x now", "see now"),
        ("&lt;b&gt;bold&lt;/b&gt; cat", "bold cat"),
        ("photo.jpg of a ‘hat’ here", "of a 'hat' here"),
        ("“quoted”", "quoted"),
        ("a-b_c-d", "a-b_c-d"),
        ("a-b_c-d_e", "a b c d e"),
        ("a cat , a dog / a bird", "a cat , a dog a bird"),
        ("one,two and 1,5", "one, two and 1,5"),
        ("wait... what", "wait what"),
        ("dog #12 and #1234 and 1234567", "dog and 1234 and"),
        ("seen by @someone in 中文", "seen by in"),
        ("a — b – c", "a - b - c"),
        ("at 192.168.0.1 or jc66vc here", "at or here"),
        ("a\\nb (c) [d] *e*", "a b c d e"),
        ("-a dog-", "a dog"),
        ("a photo of <person>", "a photo of person"),
    ],
)
def test_cleaning(text: str, cleaned: str) -> None:
    assert clean_caption(clean_caption(text)) == cleaned
