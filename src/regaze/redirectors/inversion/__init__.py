"""Inversion: a StyleGAN2 of faces with an encoder into its codes, which others edit.

As a model of its own it draws the source again, whatever the target: the floor of every method that
edits its codes. Karras et al. (CVPR 2020) and Tov et al. (SIGGRAPH 2021).
"""
