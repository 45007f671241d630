"""Redirection methods; :mod:`regaze.redirectors.base` has their contract.

:mod:`regaze.methods` finds them.
"""
