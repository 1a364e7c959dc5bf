"""The stage `speed`: one cell timed in a process of its own, and what came of it recorded, whatever that is.

A cell that was measured under the same rules on the same machine is not measured again. Nothing here imports torch:
this process only waits, and takes neither memory nor time from the one that is measured.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from vvsbench import catalog, identity
from vvsbench.composition import composed, plain
from vvsbench.config import Rerun, RunConfig, StudyConfig
from vvsbench.errors import ConfigError, UserError
from vvsbench.measure import isolation
from vvsbench.runs import files, provenance, speed_table, store, tables
from vvsbench.runs.claim import claimed
from vvsbench.runs.console import Console
from vvsbench.runs.recorded import printable
from vvsbench.runs.speed_record import Measured, SpeedRecord
from vvsbench.validation import validate

log = logging.getLogger(__name__)

CHILD = "vvsbench.runs.speed_child"
RULES = 1
"""Raised when times are taken in another way, so that older ones are out of date."""
HARDWARE = ("cpu", "cores", "gpu", "driver")


class SpeedFailed(UserError):
    """A cell could not be timed; its record says why."""

    exit_code = 1


@dataclass(frozen=True)
class Baseline:
    """What a cell is timed against.

    Attributes:
        cfg: its settings: those of the cell but for the decoder.
        overrides: what composes them.
    """

    cfg: RunConfig
    overrides: list[str]


@dataclass
class SpeedCell:
    """A cell that is being timed.

    Attributes:
        cfg: its settings.
        overrides: what composes them.
        folder: that holds it, with images or without.
        console: says what happens.
    """

    cfg: RunConfig
    overrides: Sequence[str]
    folder: Path
    console: Console

    def run(self) -> None:
        """Time it unless that has been done.

        Raises:
            UserError: it cannot be timed; unless the settings are at fault, the record says why.
        """
        baseline = baseline_of(self.cfg, self.overrides)
        settings = plain(self.cfg)
        key, speed_key = identity.cell_key(settings), _speed_key(self.cfg, baseline)
        with claimed(self.folder, self.console.say):
            record = self._known()
            done = record is not None and record.status == "ok" and record.speed_key == speed_key
            done = done and self.cfg.rerun is not Rerun.done
            if record is None or not done:
                record = SpeedRecord(
                    status="started",
                    study=self.cfg.study.name,
                    label=self.cfg.decoder.label(self.cfg.model),
                    key=key,
                    speed_key=speed_key,
                    config=settings,
                    provenance=provenance.collect(settings),
                    started=_now(),
                )
                self._measure(record, baseline)
        if record.status != "ok":
            raise SpeedFailed(f"{record.label}: {record.error}")
        self.console.show(speed_table.table(record))
        if done:
            self.console.show("measured already, nothing to do (rerun=done measures it again)")

    def _known(self) -> SpeedRecord | None:
        try:
            return store.read_speed(self.folder)
        except store.RecordError as error:
            self.console.warn(str(error).split(";")[0] + "; the cell is timed again.")
            return None

    def _measure(self, record: SpeedRecord, baseline: Baseline | None) -> None:
        job = {"overrides": list(self.overrides), "baseline": baseline.overrides if baseline else None}
        with self._recorded(record):
            with isolation.alone(self.console.say):
                _write(self.folder, record)
                ended = isolation.apart(CHILD, job)
            result = ended.result or {"status": "crashed", "error": f"{ended.how}."}
            if trace := result.get("traceback"):
                log.error("the measured process failed:\n%s", trace)
                result["error"] += f" (a bug; the traceback is in {self.folder / 'log.txt'})"
            record.status, record.error = result["status"], result.get("error")
            if record.status == "ok":
                record.measured = Measured.model_validate(result["measured"])
                content = tables.to_parquet(pd.DataFrame(result["repeats"]))
                files.write(self.folder / store.SPEED_REPEATS, content)
                record.files[store.SPEED_REPEATS] = files.digest(content)

    @contextlib.contextmanager
    def _recorded(self, record: SpeedRecord) -> Iterator[None]:
        """Write how it ended, last of all."""
        try:
            yield
        except BaseException as error:
            stopped = isinstance(error, KeyboardInterrupt)
            record.status = "interrupted" if stopped else "failed"
            record.error = "stopped by the user" if stopped else str(error) or type(error).__name__
            raise
        finally:
            record.finished = _now()
            _write(self.folder, record)


def _write(folder: Path, record: SpeedRecord) -> None:
    record.error = printable(record.error)
    files.write(folder / store.SPEED, (record.model_dump_json(indent=2) + "\n").encode())


def baseline_of(cfg: RunConfig, overrides: Sequence[str]) -> Baseline | None:
    """What a cell is timed against: the same settings with the decoder of the study's baseline.

    Args:
        cfg: settings of the cell.
        overrides: what composes them.

    Returns:
        None where it is the baseline itself, or none is wanted.

    Raises:
        ConfigError: the study's baseline is no decoder of such a target.
    """
    if not cfg.speed.baseline:
        return None
    kept = [override for override in overrides if not of_decoder(override)]
    chosen = baseline_decoder(cfg, kept)
    if chosen is None:
        raise ConfigError(
            [
                f"study.baseline={cfg.study.baseline}: there is no such decoder, and no cell of study={cfg.study.name} "
                f"has that label. Name one, as in study.baseline={cfg.model.decoders[0]}, or time the cell by itself: "
                "speed.baseline=false."
            ]
        )
    found = Baseline(composed([*kept, *chosen]), [*kept, *chosen])
    if problems := validate(found.cfg):
        said = f"study.baseline={cfg.study.baseline} cannot be timed here (speed.baseline=false does without it)"
        raise ConfigError([f"{said}: {problem}" for problem in problems])
    return None if found.cfg.decoder == cfg.decoder else found


def baseline_decoder(cfg: RunConfig, kept: Sequence[str]) -> list[str] | None:
    """Overrides of the baseline's decoder: as the study's first such cell has it, else as its own file says.

    Args:
        cfg: settings of a cell of the study.
        kept: what composes them, but for the decoder.

    Returns:
        None where the study's baseline is neither a decoder nor one of its cells.
    """
    wanted = cfg.study.baseline
    cells = [[override for override in cell if of_decoder(override)] for cell in cfg.study.cells]
    if named := [cell for cell in cells if f"decoder={wanted}" in cell]:
        return named[0]
    if not cells and wanted == StudyConfig.baseline:  # nobody chose it: take what fits the target
        return [f"decoder={cfg.model.decoders[0]}"]
    if wanted in catalog.names("decoder"):
        return [f"decoder={wanted}"]
    for cell in cells:
        run = composed([*kept, *cell])
        if run.decoder.label(run.model) == wanted:
            return cell
    return None


def of_decoder(override: str) -> bool:
    """Whether an override, or its key alone, sets the decoder or a part of it."""
    key = override.split("=", 1)[0].lstrip("+~")
    return key == "decoder" or key.startswith("decoder.") or "@decoder." in key


def _speed_key(cfg: RunConfig, baseline: Baseline | None) -> str:
    """Digest over everything that a measured time depends on."""
    machine: Mapping[str, Any] = provenance.hardware()
    depends = {
        "rules": RULES,
        "cell": identity.cell_key(plain(cfg)),
        "baseline": identity.cell_key(plain(baseline.cfg)) if baseline else None,
        "speed": asdict(cfg.speed),
        "machine": {name: machine[name] for name in HARDWARE},
        "torch": provenance.versions().get("torch"),
    }
    return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:12]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
