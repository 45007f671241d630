"""Gaze and head estimators: VGG for training losses, ResNet as the independent judge.

``build_estimator`` makes one, ``EstimatorTask`` trains it in the common loop, ``load_estimator``
and ``load_reference`` bring one back from disk.
"""
