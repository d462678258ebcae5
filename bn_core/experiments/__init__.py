"""The experiments of the book: to run one, and to judge the claims that it bears on.

From Python, each is a module: `bn_core.experiments.figure1.run("live")`. From a shell,
`python -m bn_core.experiments list` and `python -m bn_core.experiments run figure1 --scale live`.
"""
