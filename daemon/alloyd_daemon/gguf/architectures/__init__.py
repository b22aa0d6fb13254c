"""Tables of the families that llama.cpp knows; each file registers its own."""
