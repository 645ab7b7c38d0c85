"""Several methods as one."""
