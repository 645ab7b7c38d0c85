"""What a method is held against: nothing, chance, length, and two that know the answer."""
