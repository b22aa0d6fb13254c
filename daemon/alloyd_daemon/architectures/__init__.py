"""Tables of architectures; each file registers its own."""
