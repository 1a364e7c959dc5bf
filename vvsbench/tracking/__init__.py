"""Sending results elsewhere, always from the records and never in the way of a run."""
