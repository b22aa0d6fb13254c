"""From a recipe to an outline: names, layers and parameters laid over models; nothing is read but headers."""
