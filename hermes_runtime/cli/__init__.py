"""The `hermes` command: a demo of both adapters, a chat, and a check of this machine."""

from hermes_runtime.cli.app import main

__all__ = ["main"]
