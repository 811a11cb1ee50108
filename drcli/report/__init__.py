"""What people look at: console tables, figures, TensorBoard; it computes nothing that a file stores."""
