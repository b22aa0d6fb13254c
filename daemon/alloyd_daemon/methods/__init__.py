"""Merge methods, one file (or one row of a table) each; see ``merge_method`` for what one declares."""
