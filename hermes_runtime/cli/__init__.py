"""The `hermes` command: a demo of both adapters, a chat, and a check of this machine."""

from hermes_runtime.cli.ending import main

__all__ = ["main"]
