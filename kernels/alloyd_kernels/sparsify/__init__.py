"""Which elements of a task vector are kept: all, none, the k largest, or a seeded random draw."""
