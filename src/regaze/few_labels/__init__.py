"""Learning a gaze estimator from few labels, with redirected pictures of the labelled ones.

The study of ST-ED (Zheng et al., NeurIPS 2020, section on semi-supervised learning) for any
redirector: a redirector that knows the labels of few samples redirects each of them to a direction
drawn from the density of the labels, and an estimator learns from the real pictures alone or from
both. Importing this package is cheap.
"""
