"""Inversion and sampling: the ways from a clip to its edit. One file, one algorithm, one paper."""
