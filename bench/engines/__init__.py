"""Who samples: engines decode paths, hold their caches, probe and continue them; all obey ``base.Engine``."""
