"""Weighted sum of n tensors, rounded once: linear, slerp and every method that ends in coefficients."""
