"""The experiments of the book: run one, the claims it bears on, their criteria.

From Python, each is a module: `bn_core.experiments.figure1.run("live")`. From a shell,
`python -m bn_core.experiments list` and `python -m bn_core.experiments run figure1 --scale live`.
"""
