"""Quantisers: one file a library, one row a format."""
