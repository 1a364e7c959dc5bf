"""The table of nearest codes: right, the same everywhere, as small as can be, and computed once."""

from __future__ import annotations

import pytest
import torch

from vvsbench.decoding.acceptance import neighbours
from vvsbench.decoding.acceptance.neighbours import kept_nearest, nearest


@pytest.fixture
def codebook():
    return torch.randn(300, 8, generator=torch.Generator().manual_seed(3))


def files(cache):
    return sorted(path.name for path in cache.iterdir())


@pytest.mark.parametrize("normalised", [False, True])
def test_order_is_that_of_the_distances(codebook, normalised) -> None:
    table = nearest(codebook, 7, normalised)
    rows = codebook.double() / (codebook.double().norm(dim=1, keepdim=True) if normalised else 1)
    distance = (rows[:, None] - rows).norm(dim=-1).fill_diagonal_(float("inf"))
    assert table.shape == (300, 7)
    assert table.dtype == torch.int32
    assert torch.equal(table.long(), distance.sort(stable=True).indices[:, :7])


def test_raw_and_normalised_rows_order_differently(codebook) -> None:
    scaled = codebook * torch.linspace(0.2, 3.0, 300)[:, None]
    assert not torch.equal(nearest(scaled, 5, False), nearest(scaled, 5, True))


def test_equally_near_codes_come_by_number(monkeypatch) -> None:
    codes = torch.zeros(9, 2)
    codes[4] = 1.0
    for chunk in (2, 256):
        monkeypatch.setattr(neighbours, "CHUNK", chunk)
        assert nearest(codes, 3, False)[[0, 2, 4, 8]].tolist() == [[1, 2, 3], [0, 1, 3], [0, 1, 2], [0, 1, 2]]


@pytest.mark.parametrize("count", [1, 20, 299])
def test_ties_within_the_table_and_at_its_end(codebook, count) -> None:
    coarse = codebook[:, :2].round()
    distance = (coarse[:, None] - coarse).double().norm(dim=-1).fill_diagonal_(float("inf"))
    assert torch.equal(nearest(coarse, count, False).long(), distance.sort(stable=True).indices[:, :count])


def test_second_use_reads_the_cache(codebook, tmp_path, monkeypatch) -> None:
    first = kept_nearest(codebook, 5, False, tmp_path / "cache")
    monkeypatch.setattr(neighbours, "nearest", lambda *_: pytest.fail("computed again"))
    assert torch.equal(kept_nearest(codebook.clone(), 5, False, tmp_path / "cache"), first)
    assert len(files(tmp_path / "cache")) == 1


def test_the_cache_knows_what_it_was_computed_from(codebook, tmp_path) -> None:
    other = codebook.clone()
    other[0, 0] += 1e-3
    asked = [(codebook, 5, False), (codebook, 6, False), (codebook, 5, True), (other, 5, False)]
    for codes, count, normalised in asked:
        table = kept_nearest(codes, count, normalised, tmp_path)
        assert torch.equal(table, nearest(codes, count, normalised))
    assert len(files(tmp_path)) == len(asked)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "garbage"])
def test_a_damaged_file_is_named_and_rebuilt(damage, codebook, tmp_path, caplog) -> None:
    first = kept_nearest(codebook, 5, False, tmp_path)
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    if damage == "flipped":
        content[-5] ^= 0x40
    file.write_bytes(content[: len(content) // 2] if damage == "truncated" else content)
    if damage == "garbage":
        file.write_text("no tensors here")
    assert torch.equal(kept_nearest(codebook, 5, False, tmp_path), first)
    assert file.name in caplog.text
    caplog.clear()
    kept_nearest(codebook, 5, False, tmp_path)
    assert not caplog.text


def test_a_cache_that_cannot_be_written_only_costs_time(codebook, tmp_path, caplog) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert torch.equal(kept_nearest(codebook, 5, False, tmp_path / "cache"), nearest(codebook, 5, False))
    assert "cannot be kept" in caplog.text
