"""One scorer per metric: the value, its interval, and the notes that a reader of the number needs.

Numbers at small counts are biased (FID upward, IS downward), so they are compared only at equal count: every value
holds its own count and, in the sentence about its interval, the size of the reference.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vvsbench.quality import fidelity, intervals, references
from vvsbench.quality.config import FROM_IMAGES, MetricsConfig, QualityError
from vvsbench.quality.extractors import Extractor, Features, device_of
from vvsbench.quality.fidelity import Sums, Sureness
from vvsbench.quality.images import Images, Part
from vvsbench.quality.intervals import Error, Interval, Replicates, S
from vvsbench.quality.references import Reference
from vvsbench.quality.weights import Weights
from vvsbench.runs.record import Jackknife, MetricValue, packed

log = logging.getLogger(__name__)

PAIRWISE_LIMIT = 5000
"""Largest set on which a jackknife needs every pair of images; of larger sets it takes a part and scales the error."""


@dataclass(frozen=True)
class Subject:
    """An image set under a protocol; features and reference are computed when first asked for, once.

    Attributes:
        images: read a few at a time, as often as somebody asks.
        captions: N captions, or None when the prompts have none.
        config: the protocol.
        weights: where its networks lie.
        cache: folder of the reference files.
    """

    images: Images
    captions: Sequence[str] | None
    config: MetricsConfig
    weights: Weights
    cache: Path

    @property
    def count(self) -> int:
        """Number of images N."""
        return self.images.shape[0]

    @property
    def device(self) -> torch.device:
        """Where the networks run."""
        return device_of(self.config.device)

    @cached_property
    def extractor(self) -> Extractor:
        """The protocol's feature extractor."""
        assert self.weights.extractor is not None
        config = self.config
        spatial = "sfid" in config.values
        return Extractor(config.extractor.kind, self.weights.extractor, self.device, config.batch_size, spatial)

    @cached_property
    def features(self) -> Features:
        """Features of the images."""
        return self.extractor(self.images)

    def per_image(self, number: Callable[[Part], NDArray[np.float64]]) -> NDArray[np.float64]:
        """A number of every image, float64 [N], from the pixels alone.

        Args:
            number: of some images uint8 [n, 3, H, W], float64 [n].
        """
        return np.concatenate([number(part) for part in self.images.parts(self.config.batch_size)])

    @cached_property
    def reference(self) -> Reference:
        """The reference in the same feature space."""
        with_images = bool(FROM_IMAGES & set(self.config.values))
        size = self.images.shape[2]
        return references.load(self.config.reference, self.extractor, size, self.cache, with_images)

    @cached_property
    def reference_embeddings(self) -> Tensor:
        """Features of the reference images, float32 [M, D]."""
        embeddings = self.reference.embeddings
        assert embeddings is not None, "refused by config.problems"
        return torch.from_numpy(embeddings)

    @cached_property
    def inside_reference(self) -> NDArray[np.bool_]:
        """Which images lie inside the reference's manifold, bool [N]; precision is their share."""
        self.check_neighbours()
        return fidelity.inside(self.features.embeddings, self.reference_embeddings, self.config.neighbours)

    def check_neighbours(self) -> None:
        """Refuse a manifold of fewer points than a ball has neighbours."""
        neighbours = self.config.neighbours
        left = self.count // 3  # at least these stay in a replicate of the jackknife
        if min(left, len(self.reference_embeddings)) <= neighbours:
            raise QualityError(
                f"metrics.neighbours={neighbours} is too many for {self.count} images and a reference of "
                f"{len(self.reference_embeddings)}; raise count or lower it."
            )

    def against(self) -> str:
        """The reference, for the sentence about an interval."""
        count = self.reference.count
        return f"reference of {count} images" if count else "published reference statistics"

    @cached_property
    def strata(self) -> NDArray[np.int64]:
        """Number of the caption of every image; all zero without captions."""
        if self.captions is None:
            return np.zeros(self.count, dtype=np.int64)
        return np.unique(np.array(self.captions), return_inverse=True)[1].astype(np.int64)

    def jackknife(
        self, statistic: Callable[[NDArray[np.int64]], float], rows: NDArray[np.int64] | None = None
    ) -> Replicates:
        """The statistic without one group of images, group by group.

        Args:
            statistic: takes the indices of the images that stay.
            rows: the images that the indices count, when they are a part of the set; the error is that of the whole.
        """
        strata = self.strata if rows is None else self.strata[rows]
        found = intervals.jackknife(statistic, strata, self.config.groups)
        return Replicates(found.values, found.share * len(strata) / self.count)

    def jackknife_of_sums(
        self, summed: Callable[[NDArray[np.int64]], S], statistic: Callable[[S], float]
    ) -> Replicates:
        """The same of a statistic that follows from sums over images (see `intervals.jackknife_of_sums`)."""
        return intervals.jackknife_of_sums(summed, statistic, self.strata, self.config.groups)

    def groups(self) -> str:
        """The group of every image in every partition, for the record."""
        return packed(intervals.membership(intervals.partitions(self.strata, self.config.groups), self.count), "int16")

    def by_groups(self, value: float, error: Error, how: str) -> Interval:
        """Student interval of a jackknife error."""
        return intervals.student(value, error, self.config.confidence, f"delete-a-group jackknife by prompt, {how}")


def _value(subject: Subject, name: str, value: float, interval: Interval, higher_is_better: bool) -> MetricValue:
    """One number with its interval, if it is one."""
    if not all(map(math.isfinite, (value, interval.low, interval.high))):
        raise QualityError(
            f"{name} of these {subject.count} images is {value:g}, with an interval from {interval.low:g} to "
            f"{interval.high:g}: no number to compare with. Their features are finite, so look at the reference "
            f"({subject.config.reference.path or subject.config.reference.kind}) and at how alike the images are."
        )
    return MetricValue(
        name=name,
        value=value,
        low=interval.low,
        high=interval.high,
        n=subject.count,
        higher_is_better=higher_is_better,
        interval=interval.how,
    )


def _kept(replicates: Replicates) -> Jackknife:
    return Jackknife(replicates=replicates.values.tolist(), share=replicates.share)


def fid(subject: Subject) -> MetricValue:
    """Frechet inception distance to the reference."""
    return _frechet(subject, "fid", subject.features.embeddings, subject.reference.gaussian)


def sfid(subject: Subject) -> MetricValue:
    """The same distance in Inception's spatial layer, which sees where things are.

    Source:
        C. Nash, J. Menick, S. Dieleman and P. W. Battaglia, Generating images with sparse representations, 2021 (arXiv
        2103.03841), with the channels that ADM's evaluator takes.
    """
    spatial, reference = subject.features.spatial, subject.reference.spatial
    assert spatial is not None
    assert reference is not None, "refused by config.problems"
    return _frechet(subject, "sfid", spatial, reference)


def _frechet(subject: Subject, name: str, embeddings: Tensor, reference: fidelity.Gaussian) -> MetricValue:
    """Frechet distance of the images' features [N, D] to a reference, with its jackknife."""
    centre = fidelity.mean(embeddings)

    def summed(chosen: NDArray[np.int64]) -> Sums:
        return Sums.of(embeddings[torch.from_numpy(chosen)], centre)

    def distance(sums: Sums) -> float:
        return fidelity.fid(sums.gaussian, reference)

    value = distance(Sums.of(embeddings, centre))
    how = f"fixed {subject.against()}, of {'FID' if name == 'fid' else 'sFID'} at this count"
    replicates = subject.jackknife_of_sums(summed, distance)
    interval = subject.by_groups(value, replicates.error(), how)
    return _value(subject, name, value, interval, False).model_copy(update={"jackknife": _kept(replicates)})


def inception_score(subject: Subject) -> MetricValue:
    """Inception score; with one split its spread comes from the jackknife, with more from the splits themselves."""
    logits, splits = subject.features.logits, subject.config.splits
    if subject.count < 2 * splits:
        raise QualityError(f"metrics.splits={splits} needs at least {2 * splits} images; raise count or lower splits.")
    score = fidelity.inception_score(logits, splits)
    if splits > 1:
        error = Error(score.deviation / math.sqrt(splits - 1), splits - 1)
        how = f"Student interval over {splits} splits"
        return _value(
            subject, "is", score.mean, intervals.student(score.mean, error, subject.config.confidence, how), True
        )
    replicates = subject.jackknife_of_sums(
        lambda chosen: Sureness.of(logits[torch.from_numpy(chosen)]), lambda sums: sums.score
    )
    interval = subject.by_groups(score.mean, replicates.error(), "of IS at this count")
    return _value(subject, "is", score.mean, interval, True).model_copy(update={"jackknife": _kept(replicates)})


def kid(subject: Subject) -> MetricValue:
    """Kernel inception distance: mean over random subsets; its error adds that of the images to that of the subsets."""
    generated, reference, config = subject.features.embeddings, subject.reference_embeddings, subject.config
    size = min(config.subset_size, subject.count, len(reference))
    clipped = "" if size == config.subset_size else f" (clipped from {config.subset_size} to the count)"
    if clipped:
        log.info("KID subsets hold %d images%s", size, clipped)
    draws = fidelity.kid(generated, reference, config.subsets, size)

    rows = intervals.part(subject.count, PAIRWISE_LIMIT)
    replicates = subject.jackknife(fidelity.kernel_table(generated[rows], reference).distance, rows)
    of_images = replicates.error()
    error = Error(math.hypot(of_images.value, float(draws.std()) / math.sqrt(config.subsets)), of_images.freedom)
    how = f"and the spread of {config.subsets} subsets of {size} images{clipped}, fixed {subject.against()}"
    found = _value(subject, "kid", float(draws.mean()), subject.by_groups(float(draws.mean()), error, how), False)
    return found.model_copy(update={"jackknife": _kept(replicates), "draws": draws.tolist()})


def precision(subject: Subject) -> MetricValue:
    """Share of the images that lie inside the reference's manifold."""
    value = float(subject.inside_reference.mean())
    how = f"over images, fixed {subject.against()}, k={subject.config.neighbours}"
    interval = intervals.wilson(round(value * subject.count), subject.count, subject.config.confidence, how)
    each = packed(subject.inside_reference, "float32")
    return _value(subject, "precision", value, interval, True).model_copy(update={"each": each})


def recall(subject: Subject) -> MetricValue:
    """Share of the reference that lies inside the images' manifold, which grows with their count."""
    subject.check_neighbours()
    covered = fidelity.inside(subject.reference_embeddings, subject.features.embeddings, subject.config.neighbours)
    value = float(covered.mean())
    rows, neighbours = intervals.part(subject.count, PAIRWISE_LIMIT), subject.config.neighbours
    generated, reference = subject.features.embeddings[rows], subject.reference_embeddings[:PAIRWISE_LIMIT]
    replicates = subject.jackknife(fidelity.manifold_table(generated, reference, neighbours).recall, rows)
    how = f"fixed {subject.against()}, k={neighbours}, of recall at this count"
    interval = subject.by_groups(value, replicates.error(), how)
    interval = Interval(max(0.0, interval.low), min(1.0, interval.high), interval.how)
    return _value(subject, "recall", value, interval, True).model_copy(update={"jackknife": _kept(replicates)})


def clip(subject: Subject) -> MetricValue:
    """CLIP score of the images with their captions."""
    from vvsbench.quality import clip_score

    if subject.captions is None:
        raise QualityError("clip needs captions and these prompts have none: drop clip from metrics.values.")
    assert subject.weights.clip is not None
    config = subject.config
    captions = [config.prefix + caption for caption in subject.captions]
    result = clip_score.score(subject.images, captions, subject.weights.clip, subject.device, config.batch_size)
    interval = intervals.mean_bootstrap(result.each, config.resamples, config.confidence, "images")
    each = packed(result.each, "float32")
    found = _value(subject, "clip", result.value, interval, True)
    return found.model_copy(update={"each": each, "captions_cut": result.cut})


def hps(subject: Subject) -> MetricValue:
    """Human preference score of the images for their captions."""
    from vvsbench.quality import preference

    if subject.captions is None:
        raise QualityError("hps needs captions and these prompts have none: drop hps from metrics.values.")
    assert subject.weights.hps is not None
    config = subject.config
    weights = subject.weights.hps
    each, cut = preference.score(subject.images, subject.captions, weights, subject.device, config.batch_size)
    interval = intervals.mean_bootstrap(each, config.resamples, config.confidence, "images")
    found = _value(subject, "hps", float(each.mean()), interval, True)
    return found.model_copy(update={"each": packed(each, "float32"), "captions_cut": cut})


def accuracy(subject: Subject) -> MetricValue:
    """Share of the images in which the zoo's classifier recognises the class that was asked for."""
    from vvsbench.training.data import data_of

    assert subject.weights.extractor is not None
    names = data_of(subject.weights.extractor).CLASS_NAMES
    if subject.captions is None:
        raise QualityError("accuracy needs the captions of the classes: drop accuracy from metrics.values.")
    if unknown := sorted(set(subject.captions) - set(names)):
        raise QualityError(
            f"accuracy is defined for captions such as {names[0]!r}, not {unknown[0]!r}: drop accuracy from "
            "metrics.values."
        )
    wanted = torch.tensor([names.index(caption) for caption in subject.captions])
    known = (subject.features.logits.argmax(dim=1) == wanted).numpy()
    right = int(known.sum())
    interval = intervals.wilson(right, subject.count, subject.config.confidence, "over images")
    found = _value(subject, "accuracy", right / subject.count, interval, True)
    return found.model_copy(update={"each": packed(known, "float32")})


def hue(subject: Subject) -> MetricValue:
    """Mean concentration of the hue of the images' strongly coloured pixels."""
    from vvsbench.quality.hue import concentration

    each = subject.per_image(concentration)
    interval = intervals.mean_bootstrap(each, subject.config.resamples, subject.config.confidence, "images")
    found = _value(subject, "hue", float(each.mean()), interval, True)
    return found.model_copy(update={"each": packed(each, "float32")})


SCORERS: dict[str, Callable[[Subject], MetricValue]] = {
    "fid": fid,
    "sfid": sfid,
    "is": inception_score,
    "kid": kid,
    "precision": precision,
    "recall": recall,
    "clip": clip,
    "hps": hps,
    "accuracy": accuracy,
    "hue": hue,
}
