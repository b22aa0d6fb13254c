"""Runners, one file each: ways to put candidates to their questions; see ``runner`` for what one declares."""
