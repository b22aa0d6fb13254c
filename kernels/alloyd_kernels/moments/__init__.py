"""Sums and inner products of task vectors: one float64 partial per leaf."""
