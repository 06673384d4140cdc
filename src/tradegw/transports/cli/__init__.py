"""The command line: `tradegw`."""

from tradegw.transports.cli.app import main

__all__ = ["main"]
