"""Redirection systems, one folder each: network, objective, redirector."""
