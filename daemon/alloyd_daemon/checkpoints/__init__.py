"""Checkpoints on disk: read them, write them, know them again, prove what is in them."""
