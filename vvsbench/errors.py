"""Mistakes that a user can mend: every one ends as a single message that says what to do.

The command line catches `UserError`, prints its message without a traceback and exits with its `exit_code`.
Anything else is a bug of this package and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Sequence


class UserError(Exception):
    """Something the user asked for cannot be done; the message says why and what to do instead."""

    exit_code = 2


class ConfigError(UserError):
    """One or more settings contradict each other or the files they name.

    Args:
        problems: one line each, every line naming the key, what is wrong with it and how to mend it.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        head = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__("\n  - ".join([f"{head} in the configuration:", *self.problems]))


class CheckpointError(UserError):
    """A weights file is missing, unreadable, unsafe or does not fit the model it was given to."""


class OutOfSpaceError(UserError):
    """The disk that holds the outputs is full."""
