"""L1 norms of task vectors, whole and as sparsified: one float64 partial per leaf."""
