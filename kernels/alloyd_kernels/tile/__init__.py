"""A tile: up to 1,024 consecutive elements of a tensor, decoded to float32."""
