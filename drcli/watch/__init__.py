"""What is told while runs train, and what shows it: terminal, TensorBoard."""
