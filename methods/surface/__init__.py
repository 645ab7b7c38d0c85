"""Type I: the text is read, nothing is learned."""
