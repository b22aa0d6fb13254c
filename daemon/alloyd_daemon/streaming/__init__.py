"""The streamed forward: a population of candidates scored layer by layer, none of them ever whole in memory."""
