"""The `vvsbench` command: its verbs, each of which imports what it needs when it is called.

Help must answer at once, so nothing here imports torch, Hydra or anything else that takes time.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from vvsbench import streams

INTERRUPTED = 130
HELP = """\
vvsbench: accelerated visual autoregressive image generation, side by side.

usage: vvsbench VERB [KEY=VALUE ...]

  run      generate the images of a cell or of a study, count what they cost and score them
           vvsbench run study=demo
           vvsbench run decoder=vvs decoder.schedule.interval=3 count=64
           vvsbench run -m decoder.schedule.interval=2,3,4 decoder=vvs
  status   what has become of every cell of a study: done, running, interrupted, failed, stale or missing
           vvsbench status study=demo
  report   compare the cells of a study: HTML, Markdown, LaTeX and figures, from the records alone
           vvsbench report study=demo
  diff     compare two studies, or two cells, number by number: what differs beyond its interval
           vvsbench diff demo other/outputs/cells/demo
  export   write a cell's images as PNG files or as an .npz file for other people's evaluators
           vvsbench export study=demo cell=sd to=pictures
  import   score images that others made as an external row of a study
           vvsbench import FOLDER_OR_NPZ study=demo label="their code"
  list     decoders, models, studies, metric suites and where they come from
           vvsbench list models
  doctor   what this machine has, which weights are found where, and which suites can run
           vvsbench doctor model=llamagen_t2i_xl_512
  tune     the fastest lossless setting of this machine: trees by expected tokens over measured cost, timed against ar
           vvsbench tune model=tiny
  wandb    send to Weights & Biases what was logged offline
           vvsbench wandb sync
  train    train the parts of the zoos
           vvsbench train drafter

vvsbench run --help lists every setting.   Tab completion: eval "$(vvsbench run -sc install=bash)"
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        argv: arguments without the program's name; those of the process by default.

    Returns:
        The exit code: 0 done, 1 a cell failed, 2 the request was wrong, 130 after ^C.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    streams.prepare()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin on a busy machine cost ten times the work
    if arguments[:1] == ["-sc"]:
        return _complete(arguments)
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        print(HELP)
        return 0
    if arguments[0] in {"-V", "--version"}:
        from vvsbench import __version__

        print(f"vvsbench {__version__}")
        return 0
    verb, rest = arguments[0], arguments[1:]
    if verb not in VERBS:
        return _unknown(verb)
    from vvsbench.overrides import expanded

    return _guarded(VERBS[verb], [expanded(word) for word in rest])


def _guarded(action: Callable[[list[str]], int], arguments: list[str]) -> int:
    """Call a verb; what a user can mend is one message without a traceback."""
    from vvsbench.errors import UserError

    try:
        return action(arguments)
    except UserError as error:
        return _complain(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _complain("interrupted; the same command goes on where this one stopped.", INTERRUPTED)
    except BrokenPipeError:  # the reader of a pipe has left, as `head` does
        streams.silence(sys.stdout)
        return 0
    except OSError as error:
        from vvsbench.runs.failures import from_system

        reason = from_system(error)
        if not isinstance(reason, UserError):
            raise
        return _complain(str(reason), 1)


def _complain(message: str, code: int) -> int:
    sys.stdout.flush()
    print(f"vvsbench: {message}", file=sys.stderr)
    return code


def _unknown(verb: str) -> int:
    import difflib

    near = difflib.get_close_matches(verb, VERBS, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return _complain(f"there is no verb {verb}; choose from {', '.join(VERBS)}.{hint}", 2)


def _complete(arguments: list[str]) -> int:
    """Tab completion: the shell asks the program with the typed line in COMP_LINE; the verb's own app answers."""
    words = os.environ.get("COMP_LINE", "").split(" ")
    if len(words) < 3:
        print(" ".join(VERBS))
    elif words[1] == "run":
        os.environ["COMP_LINE"] = " ".join([words[0], *words[2:]])
        return _run(arguments)
    elif words[1] == "train":
        from vvsbench.training.app import names

        print(" ".join(names()))
    elif words[1] == "list":
        from vvsbench.catalog import KINDS

        print(" ".join(KINDS))
    elif words[1] == "wandb":
        from vvsbench.tracking.sync import ACTIONS

        print(" ".join(ACTIONS))
    return 0


def _run(arguments: list[str]) -> int:
    from vvsbench.runs.app import main as run

    return run(arguments)


def _train(arguments: list[str]) -> int:
    from vvsbench.training.app import main as train

    return train(arguments)


def _status(arguments: list[str]) -> int:
    from vvsbench.status import main as status

    return status(arguments)


def _report(arguments: list[str]) -> int:
    from vvsbench.reporting import main as report

    return report(arguments)


def _diff(arguments: list[str]) -> int:
    from vvsbench.diffing import main as diff

    return diff(arguments)


def _export(arguments: list[str]) -> int:
    from vvsbench.exporting import main as export

    return export(arguments)


def _import(arguments: list[str]) -> int:
    from vvsbench.importing import main as take_in

    return take_in(arguments)


def _list(arguments: list[str]) -> int:
    from vvsbench.catalog import main as show

    return show(arguments)


def _doctor(arguments: list[str]) -> int:
    from vvsbench.doctor import main as examine

    return examine(arguments)


def _tune(arguments: list[str]) -> int:
    from vvsbench.tuning import main as tune

    return tune(arguments)


def _wandb(arguments: list[str]) -> int:
    from vvsbench.tracking.sync import main as send

    return send(arguments)


VERBS: dict[str, Callable[[list[str]], int]] = {
    "run": _run,
    "status": _status,
    "report": _report,
    "diff": _diff,
    "export": _export,
    "import": _import,
    "list": _list,
    "doctor": _doctor,
    "tune": _tune,
    "wandb": _wandb,
    "train": _train,
}

if __name__ == "__main__":
    sys.exit(main())
