"""A cell's key changes with what can change its result, and with nothing else."""

from __future__ import annotations

import pytest

from tests import nano
from vvsbench import identity
from vvsbench.composition import composed, plain


@pytest.fixture
def weights(tmp_path):
    nano.write(tmp_path)
    return tmp_path


def key(weights, *overrides):
    return identity.cell_key(plain(composed([*nano.overrides(weights), *overrides])))


def test_the_same_settings_have_the_same_key(weights):
    assert key(weights) == key(weights)
    assert len(key(weights)) == 12


@pytest.mark.parametrize(
    "override", ["seed=1", "count=9", "batch_size=4", "dtype=fp64", "sampling.top_k=3", "prompts.classes=[1]"]
)
def test_what_changes_the_result_changes_the_key(weights, override):
    assert key(weights) != key(weights, override)


@pytest.mark.parametrize(
    "override", ["study.name=other", "logger=wandb", "metrics=tiny", "output_root=elsewhere", "study.title=words"]
)
def test_what_cannot_change_the_result_does_not(weights, override):
    assert key(weights) == key(weights, override)


def test_other_weights_under_the_same_name_change_the_key(weights):
    before = key(weights)
    nano.write(weights, seed=1)
    assert key(weights) != before


def test_auto_is_the_device_that_it_stands_for(weights, monkeypatch):
    monkeypatch.setattr(identity, "_gpu_answers", lambda: False)
    assert key(weights, "device=auto") == key(weights, "device=cpu")


def test_a_gpu_has_a_key_of_its_own(weights, monkeypatch):
    monkeypatch.setattr(identity, "_torch_has_cuda", lambda: True)
    monkeypatch.setattr(identity, "_gpu_answers", lambda: True)
    assert key(weights, "device=auto") == key(weights, "device=cuda")
    assert key(weights, "device=auto") != key(weights, "device=cpu")


def test_the_order_of_settings_does_not_count(weights):
    config = plain(composed(nano.overrides(weights)))
    assert identity.cell_key(dict(reversed(config.items()))) == identity.cell_key(config)


def test_the_code_that_a_cells_own_settings_name_counts(weights, monkeypatch):
    before = key(weights)
    monkeypatch.setattr(identity, "code_digest", lambda config: f"of {config['decoder']['name']}")
    one = key(weights)
    monkeypatch.setattr(identity, "code_digest", lambda config: f"of a later {config['decoder']['name']}")
    assert len({before, one, key(weights)}) == 3


def test_remarks_behind_other_statements_do_not_count_either():
    documented = (
        'N = 1\n\n\nclass C:\n    """Say."""\n\n    m = 2\n\n    def f(self):\n        """Say."""\n        return N\n'
    )
    bare = "N = 1\nclass C:\n    m = 2\n    def f(self):\n        return N\n"
    assert identity._meaning(documented) == identity._meaning(bare)
    assert identity._meaning('def f():\n    """Say."""\n') == identity._meaning("def f():\n    pass\n")


def test_only_code_that_acts_counts():
    documented = 'def f(x):\n    """Say."""\n    # remark\n    return x + 1\n'
    bare = "def f(x):\n    return (x + 1)\n"
    assert identity._meaning(documented) == identity._meaning(bare)
    assert identity._meaning(documented) != identity._meaning(bare.replace("1", "2"))
