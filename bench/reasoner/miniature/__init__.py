"""A released language model, taught to solve procedural problems step by step: a miniature of a reasoning model."""
