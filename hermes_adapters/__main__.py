"""`python -m hermes_adapters`: the command, where its script is not on the path."""

from hermes_adapters import main

main()
