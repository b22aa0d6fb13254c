"""Gram matrix of n tensors (or of their differences from a base): one float64 partial per leaf."""
