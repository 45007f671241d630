"""Faces that follow the pointer: pages of one file, drawn beforehand or by a model in the page."""
