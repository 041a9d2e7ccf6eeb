"""Slow computations that a reader can check by eye, to compare the product with."""
