"""Base plus a combination of task vectors: sparsify, weigh, elect a sign, add, in one pass."""
