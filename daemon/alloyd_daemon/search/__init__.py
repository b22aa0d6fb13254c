"""Recipe search: genomes and spaces, the ladder of scores, the history, and what came out."""
