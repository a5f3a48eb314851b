"""How token deltas travel from where they are computed to where they are read."""
