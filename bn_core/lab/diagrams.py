"""Pictures that explain: drawn from a formula or a small example, in the style of `plots`.

What was measured is drawn by `bn_core.lab.plots`. Each function here, too, returns a `Drawing`: the
figure, and a description in words that is computed from what is drawn.
"""
