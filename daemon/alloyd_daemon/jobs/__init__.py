"""Kinds of job, one file each; see ``job`` for what one declares."""
