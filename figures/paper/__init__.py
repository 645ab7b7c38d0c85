"""The tables that the STOP paper printed, to stand beside what is measured."""
