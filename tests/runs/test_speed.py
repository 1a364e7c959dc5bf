"""The stage `speed`: what is measured of a fake decoder, how a child's end is recorded, what is timed against what."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, field
from functools import cache

import pandas as pd
import pytest
import torch

from tests.runs.fakes import TOKENS, FakeTarget, FakeTrace
from vvsbench import composition, identity
from vvsbench.axes import Guarantee
from vvsbench.composition import plain
from vvsbench.decoding.base import Decoder
from vvsbench.decoding.phases import Phase, phase
from vvsbench.errors import CheckpointError, ConfigError
from vvsbench.measure import isolation
from vvsbench.measure.isolation import Ended
from vvsbench.measure.roofline import Rates
from vvsbench.runs import drawing, speed, speed_child, store
from vvsbench.runs.console import Console
from vvsbench.runs.drawing import Session
from vvsbench.runs.speed import SpeedCell, SpeedFailed, baseline_of
from vvsbench.runs.speed_record import Measured


@cache
def _composed(overrides):
    return composition.composed(overrides)


def composed(overrides):
    """Composing takes half a second, and here the same settings are wanted again and again."""
    return _composed(tuple(overrides))


SMALL = ["count=4", "batch_size=2", "shard_size=4", "device=cpu", "metrics=none", "threads=1", "speed.rounds=6"]


@dataclass
class Timed(Decoder):
    """Draws at once, or fails on request; remembers what it was asked to draw."""

    error: Exception | None = None
    target: FakeTarget = field(default_factory=FakeTarget)
    asked: list[range] = field(default_factory=list)

    @property
    def guarantee(self):
        return Guarantee.exact

    def generate(self, conditions, images, seed):
        assert len(conditions) == len(images)
        self.asked.append(images)
        if self.error:
            raise self.error
        with phase(Phase.verify):
            tokens = torch.tensor(list(images))[:, None] + torch.arange(TOKENS)
        return tokens, FakeTrace(images)


@pytest.fixture(autouse=True)
def quick(tmp_path, monkeypatch):
    """Settings composed once, nothing measured of the machine, and a lock of the test's own: it waits for nobody."""
    monkeypatch.setattr(speed, "composed", composed)
    monkeypatch.setattr(speed_child, "composed", composed)
    monkeypatch.setattr(speed_child, "rates", lambda *arguments: Rates(1e9, 1e9))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


@pytest.fixture
def decoders(monkeypatch):
    """The fakes that were opened, by the decoder's name."""
    made: dict[str, Timed] = {}

    def opened(cfg):
        made[cfg.decoder.name] = Timed()
        return Session(made[cfg.decoder.name], "exact", 0.5)

    monkeypatch.setattr(drawing, "open_session", opened)
    return made


def test_cell_and_baseline_draw_the_same_images_in_turn(decoders):
    cfg, base = composed([*SMALL, "decoder=sd", "speed.images=3"]), composed([*SMALL, "decoder=ar", "speed.images=3"])
    measured, rows = speed_child.measure(cfg, base, Console())
    table = pd.DataFrame(rows)
    assert list(table["decoder"][:4]) == ["baseline", "own", "own", "baseline"]
    assert set(table["images"]) == {3}
    assert (table.groupby("round")["first"].nunique() == 1).all()  # both draw the same images ...
    assert table["first"].nunique() == table["round"].nunique()  # ... and every round others
    assert max(len(batch) for batch in decoders["sd"].asked) == 2
    assert measured.speed_up is not None
    assert measured.speed_up.n == len(table) / 2
    assert measured.own.counts["target_forwards"] == TOKENS - 1
    assert measured.compression == 1
    assert measured.round_cost == pytest.approx(1 / measured.speed_up.value)
    assert set(measured.phases) == {"verify", "host", "pixels"}
    assert sum(measured.phases.values()) == pytest.approx(1)
    assert (measured.memory.allocated, measured.joules_per_image, measured.before.sm_mhz) == (None, None, None)
    assert measured.own.floor_seconds is None  # the fake tells nothing of its sizes
    assert measured.own.load_seconds == 0.5
    assert Measured.model_validate(json.loads(measured.model_dump_json())) == measured


def test_without_a_baseline_the_time_is_what_has_to_be_sure(decoders):
    measured, rows = speed_child.measure(composed([*SMALL, "decoder=ar"]), None, Console())
    assert (measured.speed_up, measured.baseline, measured.round_cost) == (None, None, None)
    assert {row["decoder"] for row in rows} == {"own"}


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "out_of_memory", "out of memory at batch_size=2, dtype=fp32"),
        (MemoryError(), "out_of_memory", "Try a smaller batch_size"),
        (CheckpointError("weights not found"), "failed", "weights not found"),
        (RuntimeError("boom"), "failed", "unexpected RuntimeError: boom"),
    ],
)
def test_whatever_goes_wrong_has_a_status(monkeypatch, error, status, message):
    monkeypatch.setattr(drawing, "open_session", lambda cfg: Session(Timed(error), "exact", 0.0))
    found = speed_child.answer({"overrides": [*SMALL, "decoder=ar"], "baseline": None}, Console())
    assert found["status"] == status
    assert message in found["error"]
    assert ("traceback" in found) == ("unexpected" in message)


@pytest.fixture
def result(decoders):
    """What a child answers."""
    return speed_child.answer({"overrides": [*SMALL, "decoder=ar"], "baseline": None}, Console())


def cell(tmp_path, *overrides):
    chosen = [*SMALL, "decoder=ar", *overrides]
    return SpeedCell(composed(chosen), chosen, tmp_path / "cell", Console())


def answering(monkeypatch, *ends):
    """Let children end so, one after the other; returns what they were asked."""
    asked, left = [], list(ends)

    def apart(module, job):
        asked.append(job)
        end = left.pop(0)
        if isinstance(end, BaseException):
            raise end
        return end

    monkeypatch.setattr(isolation, "apart", apart)
    return asked


def test_a_cell_is_timed_once_until_something_changes(tmp_path, monkeypatch, capsys, result):
    asked = answering(monkeypatch, *[Ended(result, "")] * 3)
    cell(tmp_path).run()
    record = store.read_speed(tmp_path / "cell")
    assert (record.status, record.key) == ("ok", identity.cell_key(plain(cell(tmp_path).cfg)))
    assert len(pd.read_parquet(tmp_path / "cell" / store.SPEED_REPEATS)) == len(result["repeats"])
    cell(tmp_path).run()
    assert "measured already" in capsys.readouterr().out
    assert len(asked) == 1
    cell(tmp_path, "speed.width=0.2").run()
    assert len(asked) == 2
    monkeypatch.setattr(speed.provenance, "hardware", lambda: record.provenance.hardware | {"cpu": "another"})
    cell(tmp_path, "speed.width=0.2").run()
    assert len(asked) == 3


@pytest.mark.parametrize(
    ("end", "status", "message"),
    [
        (Ended(None, isolation.died(-9)), "crashed", "was ended by SIGKILL"),
        (Ended({"status": "out_of_memory", "error": "out of memory at batch_size=2"}, ""), "out_of_memory", "at batch"),
        (Ended({"status": "failed", "error": "unexpected X", "traceback": "..."}, ""), "failed", "the traceback is in"),
    ],
)
def test_a_cell_that_could_not_be_timed_says_why_and_is_timed_again(
    tmp_path, monkeypatch, result, end, status, message
):
    answering(monkeypatch, end, Ended(result, ""))
    with pytest.raises(SpeedFailed, match=message):
        cell(tmp_path).run()
    record = store.read_speed(tmp_path / "cell")
    assert (record.status, record.measured) == (status, None)
    assert message in record.error
    cell(tmp_path).run()
    assert store.read_speed(tmp_path / "cell").status == "ok"


def test_an_interrupted_cell_says_so_and_a_damaged_record_is_replaced(tmp_path, monkeypatch, capsys, result):
    answering(monkeypatch, KeyboardInterrupt(), Ended(result, ""))
    with pytest.raises(KeyboardInterrupt):
        cell(tmp_path).run()
    assert store.read_speed(tmp_path / "cell").status == "interrupted"
    (tmp_path / "cell" / store.SPEED).write_text('{"status": "ok"')
    cell(tmp_path).run()
    assert "is damaged" in capsys.readouterr().err
    assert store.read_speed(tmp_path / "cell").status == "ok"


def test_how_it_is_timed_is_not_part_of_the_cell():
    keys = {identity.cell_key(plain(composed([*SMALL, *more]))) for more in ([], ["stage=speed"], ["speed.images=9"])}
    assert len(keys) == 1


def timed_against(*overrides):
    found = baseline_of(composed(overrides), overrides)
    return found and found.cfg.decoder.label(found.cfg.model)


def test_the_baseline_is_the_studys_and_shares_every_other_setting():
    own = ["decoder=vvs", "decoder.schedule.interval=3", "batch_size=8", "sampling.top_k=5"]
    found = baseline_of(composed(own), own)
    assert found.overrides == ["batch_size=8", "sampling.top_k=5", "decoder=ar"]
    assert timed_against("decoder=ar") is None  # it is the baseline
    assert timed_against("decoder=sd", "speed.baseline=false") is None


def test_the_baseline_is_set_as_the_study_sets_it():
    assert timed_against("study=demo_continuous", "decoder=masked", "decoder.ar_steps=8") == "masked 64 x 50"
    assert timed_against("model=tiny_mar", "decoder=csd", "decoder.ar_steps=16") == "masked 64 x 50"
    assert timed_against("decoder=vvs", "study.baseline=sd") == "sd"


def test_a_study_without_such_a_baseline_is_one_clear_message():
    with pytest.raises(ConfigError, match="study.baseline=nothing: there is no such decoder") as caught:
        timed_against("decoder=sd", "study.baseline=nothing")
    assert "speed.baseline=false" in str(caught.value)
    with pytest.raises(ConfigError, match="study.baseline=masked cannot be timed here"):
        timed_against("decoder=sd", "study.baseline=masked")
