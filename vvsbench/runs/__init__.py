"""What a run leaves on disk, how it gets there, and when it is out of date. Importing it does not import torch."""
