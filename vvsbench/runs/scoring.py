"""The quality stage: score an image set under a protocol unless that has been done already. It never samples."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from vvsbench import quality
from vvsbench.config import RunConfig
from vvsbench.quality.config import MetricsConfig
from vvsbench.runs import files, prompts, store
from vvsbench.runs.console import Console
from vvsbench.runs.failures import understood
from vvsbench.runs.record import CellRecord, QualityRecord


def score(cfg: RunConfig, folder: Path, record: CellRecord, console: Console) -> bool:
    """Score a cell of a run, see `measure`; its prompts count as captions where they have words."""
    cell = store.StoredCell(folder, record)
    return measure(cell, cfg.metrics, Path(cfg.output_root) / "cache", console, prompts.have_words(cfg))


def measure(cell: store.StoredCell, protocol: MetricsConfig, cache: Path, console: Console, words: bool = True) -> bool:
    """Write `quality/<protocol>.json` if it is missing, damaged or out of date.

    Args:
        cell: whose images are scored.
        protocol: to score them under.
        cache: folder of the reference features.
        console: says what happens.
        words: whether the prompts in its trace, if it has any, are captions.

    Returns:
        Whether anything had to be measured.

    Raises:
        UserError: the protocol's files are missing or do not fit.
    """
    if not protocol.values:
        return False
    record = cell.record
    captions = [str(text) for text in cell.trace["prompt"]] if words and "prompt" in cell.trace else None
    path = cell.folder / store.QUALITY / f"{protocol.name}.json"
    key = quality.key(protocol, record.image_digest, captions)
    if _known(path, console) == key:
        return False
    with console.working(f"{record.label}: measuring {', '.join(protocol.values)}"):
        try:
            result = quality.evaluate(store.StoredImages(cell), captions, protocol, cache, record.image_digest)
        except Exception as error:
            reason = understood(error, f"metrics.batch_size={protocol.batch_size}", "metrics.batch_size")
            if reason is error:
                raise
            raise reason from error
    files.write(path, (result.model_dump_json(indent=2) + "\n").encode())
    return True


def _known(path: Path, console: Console) -> str | None:
    """Key of the quality record that is there; None without one."""
    try:
        return QualityRecord.model_validate_json(path.read_bytes()).key
    except FileNotFoundError:
        return None
    except ValidationError:
        console.warn(f"{path} is damaged; it is measured again.")
        return None
