"""A model that calls Python while it reasons, in a sandbox without a network."""
