"""Scoring with llama.cpp: one model in a process of its own, kept warm from candidate to candidate."""
