"""Optimisers, one file each; each registers its own kind."""
