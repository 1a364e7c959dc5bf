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


class NotFiniteError(UserError):
    """A network gave NaN or infinity: whatever is made of it means nothing, so nothing is.

    Args:
        what: the numbers and their network, such as "logits of the target (llamagen_b)".
        dtype: that the network computes in, in torch's words: "float16".
        image: index of the first image that has some; None where there is none.
        place: where in it, such as "token 5"; empty for anywhere.
        value: one of them.
    """

    def __init__(
        self, what: str, dtype: str, image: int | None = None, place: str = "", value: float = float("nan")
    ) -> None:
        super().__init__(what, dtype, image, place, value)
        self.what, self.dtype, self.image, self.place, self.value = what, dtype, image, place, value

    def __str__(self) -> str:
        at = [f"image {self.image}"] if self.image is not None else []
        where = ", ".join([*at, *([self.place] if self.place else [])])
        numbers = f"the {self.what} are not finite ({self.value:g})" + (f" at {where}" if where else "")
        advice = (
            "float16 ends at 65504, so it overflows where dtype=bf16 and dtype=fp32 do not: use one of them."
            if self.dtype == "float16"
            else "Its weights hold such numbers, or are those of another model: check the file, or fetch it again."
        )
        return f"{numbers}, in {self.dtype}. {advice}"
