"""Spaces: each gives genes, and the recipe that a point stands for."""
