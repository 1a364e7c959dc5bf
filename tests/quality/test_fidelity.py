"""Every number is checked against a formula written down independently, in numpy and scipy."""

import numpy as np
import pytest
import torch
from scipy import linalg, spatial, special
from torch_fidelity.metric_fid import fid_features_to_statistics
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric
from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

from vvsbench.quality import fidelity


def tensor(array):
    return torch.from_numpy(np.asarray(array, dtype=np.float64))


def frechet(mean_1, covariance_1, mean_2, covariance_2):
    root = linalg.sqrtm(covariance_1 @ covariance_2)
    return ((mean_1 - mean_2) ** 2).sum() + np.trace(covariance_1 + covariance_2 - 2 * np.real(root))


def fid_of(generated, reference):
    return fidelity.fid(fidelity.gaussian(tensor(generated)), fidelity.gaussian(tensor(reference)))


def test_fid_equals_the_formula_on_random_features(random):
    generated, reference = random.normal(1, 2, (300, 12)), random.gamma(2, 1, (400, 12))
    expected = frechet(
        generated.mean(0), np.cov(generated, rowvar=False), reference.mean(0), np.cov(reference, rowvar=False)
    )
    assert fid_of(generated, reference) == pytest.approx(expected, rel=1e-9)


def test_fid_of_known_gaussians(random):
    """Diagonal Gaussians have a closed form: squared distance of means plus that of standard deviations."""
    means, deviations = np.array([1.0, -2.0, 0.5, 0.0]), np.array([0.5, 1.0, 2.0, 3.0])
    exact = fidelity.fid(fidelity.Gaussian(means, np.diag(deviations**2)), fidelity.Gaussian(np.zeros(4), np.eye(4)))
    assert exact == pytest.approx((means**2).sum() + ((deviations - 1) ** 2).sum(), rel=1e-12)
    samples = fid_of(random.normal(means, deviations, (20000, 4)), random.normal(0, 1, (20000, 4)))
    assert samples == pytest.approx(exact, rel=0.03)


def test_fid_of_a_set_with_itself_is_zero(random):
    features = random.normal(0, 1, (40, 60))  # fewer images than dimensions: a singular covariance
    assert fid_of(features, features) == pytest.approx(0, abs=1e-5)


def test_fid_is_measured_in_double_precision(random):
    features = random.normal(1000, 1, (500, 3))
    expected = frechet(features.mean(0), np.cov(features, rowvar=False), np.zeros(3), np.eye(3))
    assert fidelity.fid(
        fidelity.gaussian(tensor(features)), fidelity.Gaussian(np.zeros(3), np.eye(3))
    ) == pytest.approx(expected, rel=1e-12)


def kernel(x, y):
    return (x @ y.T / x.shape[1] + 1) ** 3


def unbiased_mmd(x, y):
    n = len(x)
    within = sum(k.sum() - np.trace(k) for k in (kernel(x, x), kernel(y, y))) / (n * (n - 1))
    return within - 2 * kernel(x, y).mean()


def test_kid_equals_the_formula(random):
    generated, reference = random.normal(0.3, 1, (50, 8)), random.normal(0, 1, (50, 8))
    expected = unbiased_mmd(generated, reference)
    whole = fidelity.kid(tensor(generated), tensor(reference), subsets=3, subset_size=50)
    assert whole.mean() == pytest.approx(expected, rel=1e-9)
    assert whole.std() == pytest.approx(0, abs=1e-12)  # the trap: subsets as large as the set have no spread


def test_kid_draws_the_subsets_of_torch_fidelity(random):
    generated, reference = tensor(random.normal(0.3, 1, (60, 8))), tensor(random.normal(0, 1, (50, 8)))
    chosen = fidelity.options(kid_subsets=7, kid_subset_size=20)
    theirs = kid_features_to_metric(generated, reference, **chosen)
    ours = fidelity.kid(generated, reference, 7, 20)
    assert ours.mean() == pytest.approx(theirs[KEY_METRIC_KID_MEAN], rel=1e-12)
    assert ours.std() == pytest.approx(theirs[KEY_METRIC_KID_STD], rel=1e-12)


def test_kernel_table_gives_kid_of_any_part_up_to_the_references_own_term(random):
    generated, reference = random.normal(0.3, 1, (50, 8)), random.normal(0, 1, (40, 8))
    table = fidelity.kernel_table(tensor(generated), tensor(reference))
    own = (kernel(reference, reference).sum() - np.trace(kernel(reference, reference))) / (40 * 39)
    part = np.arange(5, 45)
    assert table.distance(part) + own == pytest.approx(unbiased_mmd(generated[part], reference), rel=1e-9)


def test_kid_is_unbiased_where_fid_is_not(random):
    sets = [(random.normal(0, 1, (40, 8)), random.normal(0, 1, (40, 8))) for _ in range(60)]
    kids = [fidelity.kid(tensor(x), tensor(y), 5, 20).mean() for x, y in sets]
    fids = [fid_of(x, y) for x, y in sets]
    assert abs(np.mean(kids)) < 4 * np.std(kids) / np.sqrt(60)
    assert np.mean(fids) > 10 * np.std(fids) / np.sqrt(60)


def manifold_share(points, manifold, k):
    """Share of the points inside any ball around a manifold point that reaches its k-th neighbour."""
    radii = np.sort(spatial.distance.cdist(manifold, manifold), axis=1)[:, k]
    return (spatial.distance.cdist(points, manifold) <= radii).any(axis=1).mean()


def precision_recall(generated, reference, k):
    return fidelity.inside(generated, reference, k).mean(), fidelity.inside(reference, generated, k).mean()


def test_precision_and_recall_are_those_of_torch_fidelity_a_few_rows_at_a_time(random, monkeypatch):
    generated, reference = tensor(random.normal(0, 0.7, (70, 5))), tensor(random.normal(0, 1, (90, 5)))
    theirs = prc_features_to_metric(generated, reference, **fidelity.options(save_cpu_ram=True))
    expected = theirs[KEY_METRIC_PRECISION], theirs[KEY_METRIC_RECALL]
    for distances, rows in ((1 << 25, 4096), (300, 32)):
        monkeypatch.setattr(fidelity, "DISTANCES", distances)
        monkeypatch.setattr(fidelity, "ROWS", rows)
        assert precision_recall(generated, reference, 3) == pytest.approx(expected, abs=1e-6)


def test_precision_and_recall_equal_the_definition_and_are_not_swapped(random):
    generated, reference = random.normal(0, 0.4, (70, 5)), random.normal(0, 1, (90, 5))
    precision, recall = precision_recall(tensor(generated), tensor(reference), 3)
    assert precision == pytest.approx(manifold_share(generated, reference, 3), abs=1e-6)
    assert recall == pytest.approx(manifold_share(reference, generated, 3), abs=1e-6)
    assert precision > recall + 0.3  # a narrow set is precise and covers little


def test_precision_is_the_share_of_the_images_inside(random):
    generated, reference = tensor(random.normal(0, 0.8, (70, 5))), tensor(random.normal(0, 1, (90, 5)))
    member = fidelity.inside(generated, reference, 3)
    assert member.shape == (70,)
    assert 0 < member.mean() < 1
    assert member.mean() == pytest.approx(precision_recall(generated, reference, 3)[0], abs=1e-6)


def test_manifold_table_gives_the_recall_of_any_part(random):
    generated, reference = tensor(random.normal(0, 0.6, (70, 5))), tensor(random.normal(0, 1, (90, 5)))
    table = fidelity.manifold_table(generated, reference, 3)
    for part in (np.arange(70), np.arange(10, 60)):
        expected = precision_recall(generated[part], reference, 3)[1]
        assert table.recall(part) == pytest.approx(expected, abs=1e-6)


def test_a_set_recalls_itself(random):
    features = tensor(random.normal(0, 1, (30, 6)))
    assert precision_recall(features, features, 3) == (1.0, 1.0)


@pytest.mark.parametrize("rows", [4096, 7])
def test_sums_of_parts_give_what_torch_fidelity_gives_of_the_whole(random, monkeypatch, rows):
    monkeypatch.setattr(fidelity, "ROWS", rows)
    features, logits = tensor(random.normal(3, 2, (60, 9))), tensor(random.normal(0, 3, (60, 5)))
    theirs = fid_features_to_statistics(features)
    np.testing.assert_allclose(fidelity.gaussian(features).mu, theirs["mu"], rtol=1e-12)
    np.testing.assert_allclose(fidelity.gaussian(features).sigma, theirs["sigma"], rtol=1e-11, atol=1e-11)
    for splits in (1, 4):
        expected = isc_features_to_metric(logits, splits=splits, shuffle=True, rng_seed=fidelity.SEED)
        score = fidelity.inception_score(logits, splits)
        assert (score.mean, score.deviation) == pytest.approx(
            (expected[KEY_METRIC_ISC_MEAN], expected[KEY_METRIC_ISC_STD]), rel=1e-11, abs=1e-12
        )
    part, rest = fidelity.Sums.of(features[:25], features[0]), fidelity.Sums.of(features[25:], features[0])
    for sums, members in ((part + rest, features), (part + rest - part, features[25:])):
        np.testing.assert_allclose(sums.gaussian.sigma, fidelity.gaussian(members).sigma, rtol=1e-10, atol=1e-11)
    sure, unsure = fidelity.Sureness.of(logits[:25]), fidelity.Sureness.of(logits[25:])
    assert (sure + unsure - sure).score == pytest.approx(unsure.score, rel=1e-11)


def test_inception_score_equals_the_formula(random):
    logits = random.normal(0, 3, (80, 10))
    p = special.softmax(logits, axis=1)
    expected = np.exp((p * (np.log(p) - np.log(p.mean(0)))).sum(1).mean())
    assert fidelity.inception_score(tensor(logits), 1).mean == pytest.approx(expected, rel=1e-9)


def test_inception_score_of_sure_and_even_classes_is_their_number():
    logits = np.eye(8)[np.arange(64) % 8] * 200
    assert fidelity.inception_score(tensor(logits), 1).mean == pytest.approx(8, rel=1e-6)


def test_unknown_options_are_refused():
    with pytest.raises(TypeError, match="did you mean kid_subset_size"):
        fidelity.options(kid_subsetsize=10)


def test_options_never_use_a_gpu_a_cache_or_the_terminal():
    chosen = fidelity.options()
    assert (chosen["cuda"], chosen["cache"], chosen["verbose"]) == (False, False, False)
