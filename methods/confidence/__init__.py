"""Type III: the model's own signals are read, nothing is learned."""
