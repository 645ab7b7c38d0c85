"""How many paths to keep: sweeps over budgets, laws fitted to them, and advice for a task."""
