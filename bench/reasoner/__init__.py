"""The language model that is shipped: how it was made, trained and measured, and its files."""
