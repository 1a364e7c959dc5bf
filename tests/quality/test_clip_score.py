import numpy as np
import pytest
import torch

from vvsbench.errors import NotFiniteError
from vvsbench.models import checkpoints
from vvsbench.quality import clip_score
from vvsbench.quality.config import QualityError
from vvsbench.quality.images import ImageSet

CPU = torch.device("cpu")


def cosines(folder, images, captions):
    """100 * cosine of every image with every caption, from CLIPModel's own joint forward."""
    from transformers import CLIPModel, CLIPProcessor

    model, processor = CLIPModel.from_pretrained(folder).eval(), CLIPProcessor.from_pretrained(folder)
    inputs = processor(text=captions, images=list(torch.from_numpy(images)), return_tensors="pt", padding=True)
    with torch.inference_mode():
        output = model(**inputs)
    image, text = (x / x.norm(dim=-1, keepdim=True) for x in (output.image_embeds, output.text_embeds))
    return 100 * (image @ text.T).numpy()


def test_score_equals_clips_own_cosines(clip_folder, draw):
    images, captions = draw(0, 21)
    result = clip_score.score(ImageSet(images), captions, clip_folder, CPU, 8)
    expected = np.diag(cosines(clip_folder, images, captions))
    np.testing.assert_allclose(result.each, expected, atol=1e-3)
    assert result.value == pytest.approx(max(0, expected.mean()), abs=1e-3)


def test_a_long_caption_is_cut_in_front_of_its_end_token(clip_folder, draw):
    """The folder's model reads 32 tokens: 30 words of a letter and both ends. Without its end CLIP reads the first."""
    images, _ = draw(0, 6)
    long = [" ".join(letters) for letters in ("star" * 40, "ring" * 40, "x" * 30, "y" * 31, "star", "z" * 29)]
    result = clip_score.score(ImageSet(images), long, clip_folder, CPU, 4)
    assert result.cut == 3
    short = [caption[:59] for caption in long]
    expected = np.diag(cosines(clip_folder, images, short))
    np.testing.assert_allclose(result.each, expected, atol=1e-3)
    same = clip_score.score(ImageSet(np.stack([images[0]] * 2)), long[:2], clip_folder, CPU, 2)
    assert abs(same.each[0] - same.each[1]) > 0.1  # what a long caption says still counts
    assert same.cut == 2


def test_scores_that_are_not_finite_are_refused(clip_folder, draw, monkeypatch):
    images, captions = draw(0, 6)
    read = clip_score._open

    def opened(folder):
        model, processor = read(folder)
        model.text_projection.weight.data[:] = float("nan")
        return model, processor

    monkeypatch.setattr(clip_score, "_open", opened)
    with pytest.raises(
        NotFiniteError, match=r"the CLIP scores \(clip\d*\) are not finite \(nan\) at image 0, in float32"
    ):
        clip_score.score(ImageSet(images), captions, clip_folder, CPU, 4)


def test_negative_scores_are_cut_off_at_zero(clip_folder, draw):
    images, captions = draw(0, 30)
    table = cosines(clip_folder, images, captions)
    worst = [captions[column] for column in table.argmin(axis=1)]
    assert table.min(axis=1).mean() < 0
    assert clip_score.score(ImageSet(images), worst, clip_folder, CPU, 8).value == 0


def test_score_does_not_depend_on_the_batch_size(clip_folder, draw):
    images, captions = draw(0, 19)
    one, many = (clip_score.score(ImageSet(images), captions, clip_folder, CPU, size) for size in (1, 19))
    np.testing.assert_allclose(one.each, many.each, atol=1e-3)
    assert one.value == pytest.approx(many.value, abs=1e-3)


def test_every_image_is_scored_with_its_own_caption(clip_folder, draw):
    images, captions = draw(0, 40)
    table = cosines(clip_folder, images, captions)
    best = [captions[column] for column in table.argmax(axis=1)]
    assert len(set(best)) > 1
    matched = clip_score.score(ImageSet(images), best, clip_folder, CPU, 16).value
    shuffled = clip_score.score(ImageSet(images), best[1:] + best[:1], clip_folder, CPU, 16).value
    assert shuffled < matched


@pytest.mark.skipif(not checkpoints.resolve("zoo:clip/config.json").exists(), reason="the zoo's CLIP is not there")
def test_shuffled_captions_score_lower_with_the_zoos_clip(draw):
    images, captions = draw(20_000_000, 64)
    folder = checkpoints.locate("zoo:clip")
    matched = clip_score.score(ImageSet(images), captions, folder, CPU, 32).value
    shuffled = clip_score.score(ImageSet(images), captions[7:] + captions[:7], folder, CPU, 32).value
    assert matched > shuffled + 5


def test_counts_and_folders_that_do_not_fit(clip_folder, draw, tmp_path):
    images, captions = draw(0, 4)
    with pytest.raises(QualityError, match="4 images but 3 captions"):
        clip_score.score(ImageSet(images), captions[:3], clip_folder, CPU, 8)
    with pytest.raises(QualityError, match="holds no CLIP model"):
        clip_score.score(ImageSet(images), captions, tmp_path, CPU, 8)
