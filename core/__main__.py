"""`python -m lavatube` is the `lavatube` command."""

from lavatube.cli import main

main()
