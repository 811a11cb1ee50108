"""What several methods use: windows of epochs, scores, heads, prototypes, Shapley values."""
