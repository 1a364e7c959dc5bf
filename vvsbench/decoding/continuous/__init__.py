"""Speculative decoding of continuous tokens: the rules that judge drafted tokens, and the loops that apply them."""
