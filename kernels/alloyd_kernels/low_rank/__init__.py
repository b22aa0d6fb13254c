"""A weight plus a low-rank product, W + scale * (left @ right): what a LoRA adapter makes of it (arXiv:2106.09685)."""
