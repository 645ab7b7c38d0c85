"""Pruners, one file each: they score the prefixes of one problem. They import nothing of the other folders."""
