"""Paths on disk: sampled or imported, stored, labelled by continuations, opened as pools."""
