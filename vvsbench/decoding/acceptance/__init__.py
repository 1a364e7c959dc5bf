"""Acceptance rules, one small file each: which part of a verified tree becomes image, and which token follows it."""

from vvsbench.decoding.acceptance.base import AcceptanceRule, Verdict
from vvsbench.decoding.acceptance.lantern import Lantern
from vvsbench.decoding.acceptance.match import Match
from vvsbench.decoding.acceptance.sequential import Sequential

__all__ = ["AcceptanceRule", "Lantern", "Match", "Sequential", "Verdict"]
