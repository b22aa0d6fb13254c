"""Watched folders: a process of its own that turns dropped recipes and search specs into jobs."""
