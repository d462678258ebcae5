"""The laboratory: data, networks, training, probes and figures that experiments are made of.

Needs the extra `lab` (`pip install "bn-core[lab]"`).
"""
