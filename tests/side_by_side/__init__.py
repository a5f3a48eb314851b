"""Other people's code on a hosted class and on ours, with the same replies: what it returns is compared.

`make test-side-by-side` runs it in an environment that has the hosted classes. A scenario is a function that is given
what makes a model, runs somebody's code with it and returns plain data; see `scenario`. What differs on purpose stands
in `meant`, with the reason.
"""
