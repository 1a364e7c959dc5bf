"""`make bench` and `make bench-gpu`: the speed of this program on this machine, each one command.

Both print the machine's ceiling first, then what the loops reach of it, and say for every target of the project
whether it was met. Speed needs no trained weights: the large models are of random weights and real size.
"""
