"""Gram matrix of n tensors: one float64 partial per leaf."""
