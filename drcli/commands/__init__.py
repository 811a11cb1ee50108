"""What each subcommand does, one per file; imported only when the subcommand runs."""
