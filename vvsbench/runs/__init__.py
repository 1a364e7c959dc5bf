"""What a run leaves on disk, how it gets there, and when it is out of date. Nothing here imports torch when imported."""
