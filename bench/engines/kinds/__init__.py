"""The kinds of engine that are built in: what stands behind --engine, a file each."""
