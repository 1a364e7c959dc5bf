"""Certificates: what every decoder's promise is worth, measured on targets whose whole distribution is known.

`make certify` tests every exact combination of the grid, checks that the tests catch decoders that are wrong on
purpose, and measures how far from the target each relaxed rule and each skip schedule is. Continuous tokens have a part
of their own, `continuous`: their laws cannot be enumerated, but some are known in closed form.
"""
