"""How fast it is: engines, checks, online pruning, many requests at once."""
