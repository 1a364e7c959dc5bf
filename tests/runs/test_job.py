"""What a job does with the signals of its scheduler."""

from __future__ import annotations

import logging
import os
import signal
import warnings

import pytest

from vvsbench.runs.job import ENDINGS, Task


@pytest.fixture
def kept(monkeypatch):
    """This process as it is now, to be restored."""
    handlers = {number: signal.getsignal(number) for number in ENDINGS}
    for name in ("HYDRA_FULL_ERROR", "TQDM_DISABLE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr(logging, "raiseExceptions", True)
    with warnings.catch_warnings():
        yield
    logging.captureWarnings(False)
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_a_schedulers_warning_interrupts_a_job(kept, number):
    Task().set_up()
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)
