"""GGUF as a format: what is to be written for a model, its quantised types, and the binding to ggml."""
