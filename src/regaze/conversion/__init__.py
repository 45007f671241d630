"""Configurations of other projects, converted to overlays of this one's ``config.yaml``."""
