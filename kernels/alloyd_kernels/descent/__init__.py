"""Children of models, step by step: a difference added where a random draw says so (arXiv:2406.12208)."""
