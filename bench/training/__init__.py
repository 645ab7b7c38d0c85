"""What methods learn: prefixes with labels in, learned files and their cards out."""
