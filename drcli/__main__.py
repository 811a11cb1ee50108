"""`python -m drcli`, and the console script."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from drcli.cli import app  # noqa: PLC0415 (so that importing this module is free)

    app()


if __name__ == "__main__":
    main()
