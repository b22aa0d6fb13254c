"""Watched folders: a process of its own that turns dropped recipes and new models into jobs."""
