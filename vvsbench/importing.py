"""`vvsbench import`: an image set that somebody else's code made, as an external row of a study."""

from __future__ import annotations

import dataclasses
import os
import shlex
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from vvsbench.commands import command
from vvsbench.composition import composed
from vvsbench.errors import ConfigError
from vvsbench.quality.config import WORDED, MetricsConfig
from vvsbench.reporting import named, parse, place
from vvsbench.runs import external, provenance
from vvsbench.runs.console import Console
from vvsbench.runs.scoring import measure
from vvsbench.runs.store import Store, StoredCell, read_quality, read_record

DEFAULTS = {"study": "single", "size": "", "label": "", "captions": "", "output_root": "outputs"}
LONGEST = 300
"""Letters of a label."""
USAGE = """\
usage: vvsbench import FOLDER_OR_NPZ study=NAME label=TEXT [captions=FILE] [metrics=NAME] [output_root=outputs]

Takes a folder of pictures, or an .npz file with arr_0 uint8 [N, H, W, 3], into a study and scores it under the protocol
of the study's own cells, or under metrics=NAME (metrics=none: not now). Reports show it as external, never as ours.
captions: .txt with one a line or .json with a list, one for every image in their order. Without them CLIP score,
preference score and accuracy are left out. Images are in the order of their names. The same command again only
scores.
"""


def main(arguments: Sequence[str]) -> int:
    """Import an image set and score it.

    Args:
        arguments: the folder or file, and settings as key=value.

    Raises:
        UserError: it cannot be imported, and nothing was written; or it cannot be scored.
    """
    if {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    metrics = [word for word in arguments if word.startswith(("metrics=", "metrics."))]
    sources = [word for word in arguments if word not in metrics and place(word, DEFAULTS)]
    settings = parse([word for word in arguments if word not in {*sources, *metrics}], DEFAULTS)
    if len(sources) != 1 or not settings["label"]:
        raise ConfigError([USAGE.splitlines()[0].replace("usage: ", "write: ")])
    if len(settings["label"]) > LONGEST:
        raise ConfigError([f"label has {len(settings['label'])} letters; {LONGEST} at most."])
    root = Path(settings["output_root"])
    study = named(settings, root)
    protocol = composed(metrics).metrics if metrics else protocol_of(Store(root), study)
    captions = Path(settings["captions"]).expanduser() if settings["captions"] else None
    if captions is None:
        protocol = _without_words(protocol, bool(metrics))
    os.environ.setdefault("TQDM_DISABLE", "1")  # libraries show no bars and no warnings beside our lines
    warnings.simplefilter("ignore")
    os.environ[provenance.COMMAND] = shlex.join(["vvsbench", "import", *arguments])
    source = Path(sources[0]).expanduser()
    folder, new = external.add(root, study, settings["label"], source, captions)
    record = read_record(folder)
    assert record is not None
    print(f"{record.label} {record.key}: {record.count} images {'imported' if new else 'are here already'}: {folder}")
    for remark in record.external.remarks if record.external else []:
        print(f"  {remark}")
    console = Console()
    if measure(StoredCell(folder, record), protocol, root / "cache", console):
        console.finished(record, "scored", read_quality(folder)[protocol.name])
        print(f"to compare it: {command('report', f'study={study}', root=root)}")
    return 0


def _without_words(protocol: MetricsConfig, asked: bool) -> MetricsConfig:
    """The protocol for images without captions.

    Args:
        protocol: named on the command line, or the study's own.
        asked: whether it was named.

    Raises:
        ConfigError: metrics were asked for that need captions; nothing has been imported yet.
    """
    worded = [name for name in protocol.values if name in WORDED]
    rest = [name for name in protocol.values if name not in WORDED]
    if not worded:
        return protocol
    if asked:
        values = f"metrics.values=[{','.join(rest)}]" if rest else "metrics=none"
        raise ConfigError([f"metrics={protocol.name}: {', '.join(worded)} need captions=FILE; without one {values}."])
    print(f"without captions=FILE {', '.join(worded)} of {protocol.name} cannot be measured and are left out")
    return dataclasses.replace(protocol, values=rest)


def protocol_of(store: Store, study: str) -> MetricsConfig:
    """The protocol of a study's own cells, those of the latest; of a study without any, one that measures nothing."""
    own = [cell.record for cell in store.cells(study) if cell.record.external is None]
    asked: Mapping[str, Any] = (own[-1].config.get("metrics") or {}) if own else {}
    found = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(MetricsConfig), dict(asked)))
    assert isinstance(found, MetricsConfig)
    return found
