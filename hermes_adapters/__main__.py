"""`python -m hermes_adapters`: the command, where its script is not on the path."""

from hermes_adapters.ending import main

main()
