"""What was typed, before Hydra reads it: words that its grammar has no place for, and settings that are nobody's."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence

from vvsbench.config import GROUPS

HOME = re.compile(r"(?<=[=,\[])~[\w.-]*(?=[/,\]]|$)")
"""A home folder at the beginning of a value, which shells expand at the beginning of a word only."""
FOREIGN = re.compile(r"[^\w/+.$%*@?|:\s-]|[^\x00-\x7f]")
"""What Hydra's grammar takes in quotes only."""
GRAMMAR = re.compile(r"['\"\[\]{}()\\]")
"""What tells that a value is more than plain text, or is quoted already."""
PLACES = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.runtime.output_dir", "hydra.job.chdir")
"""Settings that would put a cell where no verb looks for it."""


def expanded(word: str) -> str:
    """A word with every `~` or `~user` that begins a value as the folder that it stands for.

    Args:
        word: KEY=VALUE, as typed; a word without a value stays what it is.
    """
    return HOME.sub(lambda found: os.path.expanduser(found.group()), word)  # noqa: PTH111 (pathlib's may raise)


def quoted(word: str) -> str:
    """A word whose plain values may have any letter, as `study.name=größe`; others stay what they are."""
    key, equals, value = word.partition("=")
    if not equals or GRAMMAR.search(value):
        return word
    return key + equals + ",".join(f"'{one}'" if FOREIGN.search(one) else one for one in value.split(","))


def problems(words: Sequence[str]) -> Iterator[str]:
    """What is wrong with words that Hydra would obey, or fail at without a reason; one line each."""
    for word in words:
        key, equals, value = word.partition("=")
        name = key.lstrip("+~")
        if equals and not name:
            yield f"{word}: has no key; write KEY=VALUE."
        elif name in PLACES:
            yield f"{word}: a cell's folder follows from its settings; to write elsewhere set output_root."
        elif equals and _is_group(_group(key)) and {"null", ""} & set(value.split(",")):
            none = f", write {name}=none" if name in ("metrics", "logger") else ""
            yield f"{word}: names no option; leave it out{none}, or choose one (vvsbench list shows them)."


def _group(key: str) -> str:
    """The group that a word chooses from; empty for one that takes a choice back."""
    return "" if key.startswith("~") else key.lstrip("+").split("@")[0]


def _is_group(name: str) -> bool:
    return name in GROUPS or name.startswith("hydra/")
