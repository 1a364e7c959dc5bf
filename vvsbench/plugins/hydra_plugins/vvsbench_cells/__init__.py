"""A Hydra sweeper for studies; Hydra finds it because it is in the `hydra_plugins` namespace."""
