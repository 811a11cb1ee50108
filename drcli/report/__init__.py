"""What people look at once runs are there: tables, figures, the page; it computes nothing that a file stores."""
