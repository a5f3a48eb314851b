"""What both adapters share: prompt, parser, constraint and engines for Hermes models, without any framework."""
