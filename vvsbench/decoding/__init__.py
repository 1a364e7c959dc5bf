"""Decoding loops: how image tokens are drawn from a target, and what that costs."""
