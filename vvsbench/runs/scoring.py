"""The quality stage: score an image set under a protocol unless that has been done already. It never samples."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from vvsbench import quality
from vvsbench.config import RunConfig
from vvsbench.runs import files, prompts, store
from vvsbench.runs.console import Console
from vvsbench.runs.failures import understood
from vvsbench.runs.record import CellRecord, QualityRecord


def score(cfg: RunConfig, folder: Path, record: CellRecord, console: Console) -> bool:
    """Write `quality/<protocol>.json` if it is missing, damaged or out of date.

    Returns:
        Whether anything had to be measured.

    Raises:
        UserError: the protocol's files are missing or do not fit.
    """
    protocol = cfg.metrics
    if not protocol.values:
        return False
    cell = store.StoredCell(folder, record)
    captions = [str(text) for text in cell.trace["prompt"]] if prompts.have_words(cfg) else None
    path = folder / store.QUALITY / f"{protocol.name}.json"
    key = quality.key(protocol, record.image_digest, captions)
    if _known(path, console) == key:
        return False
    cache = Path(cfg.output_root) / "cache"
    with console.working(f"{record.label}: measuring {', '.join(protocol.values)}"):
        try:
            result = quality.evaluate(cell.images, captions, protocol, cache, record.image_digest)
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
