"""A study as one table: a row per cell, with every number, its interval, and what it is against the baseline.

Everything a report shows comes out of this frame, so the page, the tables and the figures cannot disagree. A cell that
is unfinished, failed or stale keeps its row but gets no numbers: it is told, and never compared.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vvsbench import commands
from vvsbench.analysis import claims, comparison, diagnostics
from vvsbench.analysis.costs import CHOSEN, FORWARDS, SECONDS, Axis
from vvsbench.analysis.dominance import Placing, placing, relation
from vvsbench.analysis.estimate import Estimate, estimate
from vvsbench.analysis.settings import ABSENT, differences, families, firsts, flat, setting, shared
from vvsbench.analysis.troubles import Trouble, of_cell, of_study, together
from vvsbench.config import Cost, StudyConfig
from vvsbench.errors import UserError
from vvsbench.runs.record import MetricValue, QualityRecord
from vvsbench.runs.store import RecordError, Store, StoredCell, changed_since, read_speed

METRICS = ("fid", "sfid", "kid", "is", "precision", "recall", "clip", "hps", "accuracy", "hue")
COSTS = (
    "step_compression",
    "target_forwards",
    "prefill_forwards",
    "draft_forwards",
    "target_positions",
    "draft_positions",
    "skipped_steps",
    "accepted_length",
    "cost",
    "target_head_evaluations",
    "draft_head_evaluations",
    "drafted",
    "kept",
    "kept_relaxed",
    "distance",
    "fallback",
    "seconds_per_image",
)
"""Summaries of a record."""
FORWARDS_COUNTED = ["target_forwards", "prefill_forwards"]
DRAFTING = ("share_drawn", "share_accepted", "share_skipped", "tokens_per_skip", "agreed", "rolled_back")
"""See `vvsbench.analysis.diagnostics.numbers`."""
HARDWARE = ("cpu", "cores", "gpu", "driver")
"""What makes two machines different for a clock."""


class NothingToReport(UserError):
    """A study has no cell whose numbers can be shown."""


@dataclass(frozen=True)
class StudyFrame:
    """A study, tabulated.

    Attributes:
        name: of the study.
        title: its heading.
        baseline: decoder that every claim is relative to.
        rows: one row per cell, indexed by cell key, in the study's order, the baselines first.
        cells: the stored cells by key.
        troubles: what has to be told first.
        x: the setting that the study varies, empty without one; the column x of the rows has its values.
        axis: the cost of its fronts.
        protocol: that its metrics were measured under, empty when nothing was scored; see `frames`.
        front: decoder whose front is the one to beat, empty without one.
        external: a row per imported image set, with its metrics; they are in no comparison, for nothing but their
            images is known.
        claims: what papers claim about its cells.
        stands_for: see `vvsbench.config.StudyConfig`.
    """

    name: str
    title: str
    baseline: str
    rows: pd.DataFrame
    cells: Mapping[str, StoredCell]
    troubles: Sequence[Trouble]
    x: str = ""
    axis: Axis = FORWARDS
    protocol: str = ""
    front: str = ""
    external: pd.DataFrame = field(default_factory=pd.DataFrame)
    claims: Sequence[claims.Claim] = ()
    stands_for: Mapping[str, str] = field(default_factory=dict)

    @property
    def usable(self) -> pd.DataFrame:
        """The rows that have numbers."""
        return self.rows[self.rows["usable"]]

    def comparisons(self) -> list[tuple[str, pd.DataFrame]]:
        """The usable rows by setting: only cells that differ in nothing but their decoder are compared.

        Returns:
            Pairs of what is special about a setting (empty when there is one only) and its rows.
        """
        return [(str(setting), rows) for setting, rows in self.usable.groupby("setting", sort=False)]

    def quality(self, key: str) -> QualityRecord | None:
        """The quality record that a row's numbers are from; None when it has none."""
        protocol = str(self.rows.loc[key, "protocol"] or "")
        return self.cells[key].quality.get(protocol.split(" ")[0]) if protocol else None

    def metric(self, key: str, name: str) -> MetricValue | None:
        """A metric of a row with all that its record keeps."""
        found = self.quality(key)
        return next((value for value in found.values if value.name == name), None) if found else None

    def baseline_of(self, rows: pd.DataFrame) -> pd.Series[Any] | None:
        """The row that the others of a comparison are measured against; None when the study has not run it."""
        found = rows[rows["is_baseline"]]
        return None if found.empty else found.iloc[0]


def frames(study: str, root: Path, timed_only: bool = False) -> list[StudyFrame]:
    """Tabulate a study from its records, once for every protocol that some cell was scored under.

    Numbers of two protocols are never in one frame; all else is the same in each.

    Args:
        study: its name.
        root: the output root.
        timed_only: whether a study that has nothing to show but its speed is given as a frame without numbers.

    Returns:
        First the frame of the protocol that the latest cell asked for. At least one: of no protocol where nothing was
        scored.

    Raises:
        NothingToReport: there is no cell with numbers.
        ClaimsError: the published figures that the study names cannot be read.
    """
    stored, unreadable = _read(study, root)
    cells = [cell for cell in stored if cell.record.external is None]
    if not cells and timed_only:
        return [replace(_without_cells(study, root), troubles=unreadable)]
    if not cells:
        raise _nothing(study, root, bool(stored), unreadable)
    found = replace(_costed(study, cells), troubles=unreadable)
    if not found.rows["usable"].any():
        troubles = together(
            [
                *unreadable,
                *(Trouble(str(row["label"]), of_cell(found.cells[str(key)])) for key, row in found.rows.iterrows()),
            ]
        )
        if timed_only:
            return [replace(found, troubles=troubles)]
        reasons = "; ".join(f"{trouble.subject}: {trouble.what}" for trouble in troubles)
        raise NothingToReport(
            f"no cell of study {study} can be shown ({reasons}); run it again: {commands.run(study, root=root)}"
        )
    found = replace(found, rows=_relative(found))
    imported = [cell for cell in stored if cell.record.external]
    first, *others = _protocols(cells)
    return [
        _scored(found, first, imported),
        *(_scored(found, name, [cell for cell in imported if name in cell.quality]) for name in others),
    ]


def _nothing(study: str, root: Path, imported: bool, unreadable: Sequence[Trouble]) -> NothingToReport:
    """Why there is no cell to show, and what makes one."""
    only = " but imported image sets" if imported else ""
    reasons = [f"{trouble.subject} {trouble.what}" for trouble in unreadable]
    if not reasons:
        reasons.append(f"run it first: {commands.run(study, root=root)}")
    return NothingToReport("; ".join([f"study {study} has no cells{only} below {root}", *reasons]))


def _read(study: str, root: Path) -> tuple[list[StoredCell], list[Trouble]]:
    """The cells of a study that can be read, and a line about each of the others and each lost score."""
    kept = Store(root).read(study)
    sound, troubles = [], [Trouble(one.folder.name, f"is left out: {one.why}") for one in kept.unreadable]
    for cell in kept.sound:
        try:
            cell.check()
        except RecordError as error:
            troubles.append(Trouble(cell.record.label, f"is left out: {error}"))
        else:
            sound.append(cell)
            troubles += [Trouble(cell.record.label, f"has lost a score: {why}") for why in cell.unscored]
    return sound, troubles


def _costed(study: str, cells: Sequence[StoredCell]) -> StudyFrame:
    """A study with everything but what its cells are against their baselines, and their quality."""
    settings: Mapping[str, Any] = cells[-1].record.config.get("study") or {}
    baseline = str(settings.get("baseline") or "ar")
    axis = CHOSEN[Cost(settings.get("cost") or StudyConfig.cost)]
    rows = pd.DataFrame([_row(cell) for cell in cells]).set_index("key")
    rows["is_baseline"] = _baselines(rows, cells, baseline, settings.get("cells") or [])
    rows["family"] = families([cell.record.config for cell in cells], settings.get("families", StudyConfig().families))
    x = str(settings.get("x") or "")
    values = [setting(cell.record.config, x) if x else ABSENT for cell in cells]
    rows["x"] = pd.Series([None if value is ABSENT else value for value in values], rows.index, dtype=object)
    rows = _ordered(_named(rows, cells), axis)
    return StudyFrame(
        name=study,
        title=str(settings.get("title") or study),
        baseline=baseline,
        rows=rows,
        cells={cell.record.key: cell for cell in cells},
        troubles=[],
        x=x,
        axis=axis,
        front=str(settings.get("front") or ""),
        claims=claims.published(settings.get("claims") or []),
        stands_for=settings.get("stands_for") or {},
    )


def _scored(study: StudyFrame, protocol: str, imported: Sequence[StoredCell]) -> StudyFrame:
    """A study with the quality of its cells under one protocol, and what has to be told of it."""
    known: dict[str, dict[str, Any]] = {}
    for key, row in study.rows.iterrows():
        cell = study.cells[str(key)]
        quality = cell.quality.get(protocol)
        known[str(key)] = {"trouble": of_cell(cell, quality, protocol)}
        known[str(key)] |= _metrics(quality, cell.record.image_digest) if row["usable"] else {}
    rows = _scored_alike(study.rows.join(pd.DataFrame.from_dict(known, orient="index")))
    found = replace(study, rows=rows, protocol=protocol, external=_external(imported, protocol))
    changes = {
        str(key): _changes(found, str(key), str(base.name), bool(row["equal_images"] == row["count"]))
        for _, group in found.comparisons()
        if (base := found.baseline_of(group)) is not None
        for key, row in group.iterrows()
    }
    found = replace(found, rows=rows.join(pd.DataFrame.from_dict(changes, orient="index")))
    found = replace(found, rows=found.rows.join(_places(found)))
    return replace(
        found,
        troubles=[
            *study.troubles,
            *of_study(found.rows, timed(found.usable), study.cells, study.name, study.baseline, study.axis),
        ],
    )


def _scored_alike(rows: pd.DataFrame) -> pd.DataFrame:
    """The same rows, without the quality of cells that were not scored as their baseline was.

    A protocol of another version, or another reference, gives other numbers. Where the baseline has none, what most
    cells of the comparison have counts.
    """
    scored = rows[rows["usable"] & (rows["protocol"].fillna("") != "")]
    metrics = [f"{name}{end}" for name in METRICS for end in ("", "_low", "_high") if f"{name}{end}" in rows]
    for _, group in scored.groupby("setting", sort=False):
        measures = group["protocol"] + " " + group["reference"]
        bases = measures[group["is_baseline"]]
        wanted = bases.iloc[0] if len(bases) else measures.mode().iloc[0]
        for key in group.index[measures != wanted]:
            other = rows.loc[key, "protocol"]
            how = f"as {other}" if not wanted.startswith(f"{other} ") else "against another reference"
            rows.loc[key, "trouble"] = f"was scored {how}; its quality is left out until the study is run again"
            rows.loc[key, ["protocol", "reference"]] = ""
            rows.loc[key, metrics] = None
    return rows


def _external(cells: Sequence[StoredCell], protocol: str) -> pd.DataFrame:
    """A row per imported image set: what it is called, where it comes from and how good it is."""
    rows = []
    for cell in cells:
        record, quality = cell.record, cell.quality.get(protocol)
        assert record.external is not None
        row = {"key": record.key, "label": record.label, "family": "", "guarantee": "external", "is_baseline": False}
        row |= {"source": record.external.source, "count": record.count}
        rows.append(row | _metrics(quality, record.image_digest))
    return pd.DataFrame(rows).set_index("key") if rows else pd.DataFrame()


def _without_cells(study: str, root: Path) -> StudyFrame:
    """A study that has been timed and never drawn."""
    timed = Store(root).speeds(study).sound
    declared = (timed[-1].config.get("study") if timed else None) or {}
    rows = pd.DataFrame({"usable": [], "is_baseline": [], "family": [], "setting": []}).astype({"usable": bool})
    return StudyFrame(study, str(declared.get("title") or study), str(declared.get("baseline") or "ar"), rows, {}, [])


def _protocols(cells: Sequence[StoredCell]) -> list[str]:
    """The protocols that cells with numbers were scored under, first what the latest of them asked for.

    Where nothing was scored, one without a name.
    """
    scored = [cell for cell in cells if _usable(cell) and cell.quality]
    names = sorted({name for cell in scored for name in cell.quality}) or [""]
    asked = [str((cell.record.config.get("metrics") or {}).get("name", "")) for cell in scored]
    first = next((name for name in reversed(asked) if name in names), names[0])
    return [first, *(name for name in names if name != first)]


def _usable(cell: StoredCell) -> bool:
    return cell.record.status == "ok" and not cell.stale


def _row(cell: StoredCell) -> dict[str, Any]:
    record = cell.record
    usable = _usable(cell)
    row: dict[str, Any] = {
        "key": record.key,
        "label": record.label,
        "decoder": str(record.config["decoder"]["name"]),
        "status": record.status,
        "stale": cell.stale_because,
        "usable": usable,
        "guarantee": record.guarantee,
        "count": record.count,
        "seed": record.config.get("seed"),
        "hardware": hardware(record.provenance.hardware),
        "setting": shared(record.config),
        "setting_but_seed": shared({name: value for name, value in record.config.items() if name != "seed"}),
    }
    if usable:
        for name in COSTS:
            summary = record.summaries.get(name)
            row |= _columns(name, Estimate(summary.mean, summary.low, summary.high) if summary else None)
        drafting = diagnostics.numbers(cell.trace) if cell.drafts else {}
        for name in DRAFTING:
            row |= _columns(name, drafting.get(name))
    return row


def _metrics(quality: QualityRecord | None, image_digest: str) -> dict[str, Any]:
    """Every metric of an image set, and the protocol and reference that they were taken with."""
    valid = quality if quality and quality.image_digest == image_digest else None
    values = {value.name: value for value in valid.values} if valid else {}
    row: dict[str, Any] = {}
    for name in METRICS:
        value = values.get(name)
        row |= _columns(name, Estimate(value.value, value.low, value.high) if value else None)
    row["protocol"] = f"{valid.protocol} {valid.version}" if valid else ""
    row["reference"] = valid.reference_digest if valid else ""
    return row


def _baselines(
    rows: pd.DataFrame, cells: Sequence[StoredCell], baseline: str, declared: Sequence[Sequence[str]]
) -> list[bool]:
    """Which cells are what the others of their setting are measured against.

    Args:
        rows: one for each cell.
        cells: of the study, in the order in which they were started.
        baseline: a decoder, or the label of a cell.
        declared: the overrides of the study's cells. Where several cells have that decoder, it is the first of them
            there, whether or not it has numbers: another one never takes its place unseen.
    """
    asked = (rows["decoder"] == baseline) | (rows["label"] == baseline)
    candidates = {cell.record.key: cell.record.config for cell in cells if asked[cell.record.key]}
    settings = {key: shared(config) for key, config in candidates.items()}
    first = firsts(list(candidates.values()), list(settings.values()), declared)
    chosen = {key for key, config in candidates.items() if config["decoder"] == first[settings[key]]}
    return [key in chosen for key in rows.index]


def _columns(name: str, value: Estimate | None) -> dict[str, float | None]:
    return {
        name: value.value if value else None,
        f"{name}_low": value.low if value else None,
        f"{name}_high": value.high if value else None,
    }


def hardware(found: Mapping[str, Any]) -> str:
    """Fingerprint of a machine: what decides how long a forward takes."""
    parts = [str(found.get("cpu") or "unknown processor"), f"{found.get('cores', '?')} cores"]
    parts += [
        str(found[name]) if name == "gpu" else f"driver {found[name]}" for name in HARDWARE[2:] if found.get(name)
    ]
    return ", ".join(parts)


def _named(rows: pd.DataFrame, cells: Sequence[StoredCell]) -> pd.DataFrame:
    """Short names for settings, and labels that no two usable cells of a setting share."""
    usable = rows[rows["usable"]]
    settings = {str(text): flat(json.loads(text)) for text in usable["setting"]}
    names = {text: differences(found, list(settings.values())) for text, found in settings.items()}
    rows = rows.assign(setting=rows["setting"].map(names).fillna(""))
    decoders = {cell.record.key: flat(cell.record.config["decoder"]) for cell in cells}
    for _, twins in rows[rows["usable"]].groupby(["setting", "label"]):
        if len(twins) > 1:
            for key in twins.index:
                extra = differences(decoders[str(key)], [decoders[str(twin)] for twin in twins.index])
                rows.loc[key, "label"] = f"{rows.loc[key, 'label']} {extra}".strip()
    return rows


def _ordered(rows: pd.DataFrame, axis: Axis) -> pd.DataFrame:
    """Baselines first, then families in the order in which they came, each from dear to cheap."""
    families = {family: number for number, family in enumerate(dict.fromkeys(rows["family"]))}
    costs = pd.to_numeric(rows[axis.column]) if axis.column in rows else pd.Series(0.0, rows.index)
    order = pd.DataFrame(
        {
            "setting": rows["setting"],
            "later": ~rows["is_baseline"],
            "family": rows["family"].map(families),
            "cheapness": costs if axis.more_is_better else -costs,
        }
    )
    return rows.reindex(order.sort_values(list(order.columns), kind="stable").index)


def _relative(study: StudyFrame) -> pd.DataFrame:
    """The rows with what every cell is against the baseline of its setting."""
    found: dict[str, dict[str, Any]] = {}
    for _, group in study.comparisons():
        base = study.baseline_of(group)
        if base is None:
            continue
        for key, row in group.iterrows():
            found[str(key)] = _against(study, str(key), row, base)
    added = pd.DataFrame.from_dict(found, orient="index")
    return study.rows.join(added)


def _against(study: StudyFrame, key: str, row: pd.Series[Any], base: pd.Series[Any]) -> dict[str, Any]:
    cell, other = study.cells[key], study.cells[str(base.name)]
    pairs = comparison.pairs(cell, other)
    added: dict[str, Any] = {"baseline": base["label"]} | _likeness(pairs)
    added |= _columns("forwards_ratio", comparison.saving(cell.trace, other.trace, FORWARDS_COUNTED))
    added |= _columns("cost_ratio", comparison.saving(cell.trace, other.trace, ["cost"]))
    same_machine = row["hardware"] == base["hardware"]
    added |= _columns("speed_up", comparison.speed_up(cell.repeats, other.repeats) if same_machine else None)
    return added | _columns("timed_speed_up", _timed_in_turn(cell, other))


def _timed_in_turn(cell: StoredCell, base: StoredCell) -> Estimate | None:
    """How many times faster a cell draws than its baseline, of the two timed in turn; None where that was not done."""
    try:
        record = read_speed(cell.folder)
    except RecordError:  # which is told where speed is
        return None
    found = record.measured if record else None
    if record is None or found is None or found.baseline is None or found.speed_up is None:
        return None
    if found.baseline.label != base.record.label or changed_since(record.provenance, record.config):
        return None
    return Estimate(found.speed_up.value, found.speed_up.low, found.speed_up.high)


def _likeness(pairs: comparison.Pairs | None) -> dict[str, Any]:
    """How much of two image sets is the same; columns without a value when the images are not here."""
    added: dict[str, Any] = {
        "equal_images": int(pairs.identical.sum()) if pairs else None,
        "equal_tokens": float(1 - pairs.tokens.mean()) if pairs else None,
    }
    apart = pairs.distances if pairs else None
    added |= _columns("changed_tokens", comparison.mean(pairs.tokens) if pairs else None)
    added |= _columns("token_distance", None if apart is None else comparison.mean(apart))
    return added | _columns("pixel_change", comparison.mean(pairs.pixels) if pairs else None)


def _changes(study: StudyFrame, key: str, base: str, same: bool) -> dict[str, Any]:
    """The change of every metric, and the names of those whose interval is not a paired one.

    Args:
        key: of the cell.
        base: key of the baseline's cell.
        same: whether both have the same images.
    """
    added: dict[str, Any] = {}
    unpaired = []
    for name in METRICS:
        change, paired = metric_change(study, key, base, name)
        if change is not None:
            change, paired = (Estimate(0.0, 0.0, 0.0), True) if same else (change, paired)
            unpaired += [] if paired else [name]
        added |= _columns(f"{name}_change", change)
    return added | {"unpaired": " ".join(unpaired)}


def metric_change(study: StudyFrame, key: str, other: str, name: str) -> tuple[Estimate | None, bool]:
    """How a metric of one cell differs from that of another.

    Args:
        study: that has both.
        key: of the cell.
        other: key of the cell that it is compared with.
        name: of the metric.

    Returns:
        The difference, None where one has not got the metric or they were scored differently; and whether its interval
        is a paired one.
    """
    return comparison.quality_change(study.quality(key), study.quality(other), name)


def _places(study: StudyFrame) -> pd.DataFrame:
    """Where every cell lies among those of its comparison, on each cost axis."""
    axes = (study.axis, SECONDS)
    nowhere: dict[str, Any] = {axis.place: None for axis in axes} | {axis.dominated_by: [] for axis in axes}
    found = {str(key): dict(nowhere) for key in study.rows.index}
    for _, group in study.comparisons():
        labels = group["label"].astype(str)
        for axis in axes:
            for key, one in placings(study, group, axis).items():
                beaten = [labels[other] for other in one.by]
                found[key] |= {axis.place: one.place.value, axis.dominated_by: beaten}
    return pd.DataFrame.from_dict(found, orient="index", dtype=object)


def placings(study: StudyFrame, rows: pd.DataFrame, axis: Axis) -> dict[str, Placing[str]]:
    """Where cells lie among each other in cost and FID.

    Args:
        study: that the rows are of.
        rows: one comparison of it.
        axis: the cost. Seconds are only taken from one machine, and as independent: they were not taken in turn.

    Returns:
        By key, for those that have both numbers; nothing when fewer than two have.
    """
    points = on_both(rows, axis)
    if len(points) < 2:
        return {}
    keys = [str(key) for key in points.index]
    cost = cost_difference(study, points, axis)

    def differences(mine: str, other: str) -> Iterator[Estimate | None]:
        yield cost(mine, other)
        yield fid_difference(study, points, mine, other)

    return {
        mine: placing({other: relation(differences(mine, other)) for other in keys if other != mine}) for mine in keys
    }


def on_both(rows: pd.DataFrame, axis: Axis) -> pd.DataFrame:
    """The rows that have a cost and an FID; of seconds those of one machine."""
    if "fid" not in rows or axis.column not in rows:
        return rows.iloc[:0]
    rows = timed(rows) if axis is SECONDS and len(rows) else rows
    return rows[rows["fid"].notna() & rows[axis.column].notna()]


def cost_difference(study: StudyFrame, rows: pd.DataFrame, axis: Axis) -> Callable[[str, str], Estimate | None]:
    """A function of two keys: what the first costs less what the other does, less being cheaper on any axis.

    Counts are compared image by image, since all rows drew from the same prompts and noise.

    Args:
        study: that the rows are of.
        rows: one comparison of it, with this cost.
        axis: the cost.
    """
    sign = -1.0 if axis.more_is_better else 1.0
    if axis is SECONDS:
        taken = {str(key): estimate(row, axis.column) for key, row in rows.iterrows()}

        def apart(mine: str, other: str) -> Estimate | None:
            one, two = taken[mine], taken[other]
            return comparison.change(one, two) if one and two else None

        return apart
    counts = {
        str(key): sign * study.cells[str(key)].trace.sort_values("image")[axis.column].to_numpy(dtype=np.float64)
        for key in rows.index
    }
    return lambda mine, other: comparison.paired_mean(counts[mine] - counts[other])


def fid_difference(study: StudyFrame, rows: pd.DataFrame, mine: str, other: str) -> Estimate | None:
    """FID of one cell less that of another; zero for certain where both drew the baseline's images."""
    if "equal_images" in rows:
        one, two = (rows.loc[key, ["equal_images", "count"]] for key in (mine, other))
        if one["equal_images"] == one["count"] and two["equal_images"] == two["count"]:
            return Estimate(0.0, 0.0, 0.0)
    return metric_change(study, mine, other, "fid")[0]


def timed(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows whose seconds may share an axis: those of one machine, the baseline's if it ran.

    Args:
        rows: usable rows of a frame.
    """
    baselines = rows[rows["is_baseline"]]
    machine = baselines["hardware"].iloc[0] if len(baselines) else rows["hardware"].mode().iloc[0]
    return rows.loc[list(rows["hardware"] == machine)]
