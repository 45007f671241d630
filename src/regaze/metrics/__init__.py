"""Measuring redirected pictures: one implementation for every redirector.

``measure_samples`` reads samples in chunks and answers the content of ``metrics.json`` and
``per_pair.parquet``; the other modules hold the single measures.
"""
