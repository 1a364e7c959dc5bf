"""Targets: the networks, their weights, and the contract that decoders see."""
