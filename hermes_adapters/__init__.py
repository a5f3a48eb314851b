"""The `hermes-adapters` command: a demo of both adapters, a chat, and a check of this machine."""

from hermes_adapters.ending import main

__all__ = ["main"]
