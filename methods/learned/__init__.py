"""Type IV: trained on the model's own states."""
