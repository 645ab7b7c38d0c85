"""Type II: the text is read by what has been trained."""
