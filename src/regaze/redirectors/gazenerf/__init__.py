"""Radiance fields of heads: HeadNeRF, its two successors that are told the gaze, and GazeNeRF.

Hong et al. (CVPR 2022), ``colincqian/GazeNeRF`` and Ruzzi et al. (CVPR 2023). One field in three
parts: ray maths (:mod:`.rays`), a multilayer perceptron of densities and features along rays
(:mod:`.radiance`), and convolutions that make a picture of what they add up to (:mod:`.renderer`).
"""
