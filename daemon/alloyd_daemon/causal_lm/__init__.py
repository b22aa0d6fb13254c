"""Causal language models of transformers: loading one, the likelihoods it gives, the text it writes."""
