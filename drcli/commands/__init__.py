"""What each subcommand does, one a file; imported only when the subcommand runs."""
