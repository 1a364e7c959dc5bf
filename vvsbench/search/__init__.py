"""A search over decoders' settings for several objectives at once, its trials being ordinary cells of a study.

Whatever a trial is worth is read from the records of its cell, so a search that was killed replays what is done and
goes on. The package imports no torch, and optuna only once a search has begun.
"""
