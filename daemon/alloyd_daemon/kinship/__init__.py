"""Kinship: how alike models are that were made from one base, by their task vectors (arXiv:2410.12613)."""
