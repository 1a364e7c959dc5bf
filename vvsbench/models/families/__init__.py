"""Targets that transformers runs: one adapter to the target's contract, and a small file for each family of models."""
