"""Events of runs while they train, and what shows them: terminal, TensorBoard."""
