"""vvsbench: a side-by-side benchmark of accelerated visual autoregressive image generation."""

__version__ = "0.1.0"
