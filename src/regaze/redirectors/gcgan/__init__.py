"""GC-GAN: a compositional GAN that draws an eye region with its segmentation for a gaze.

Every class of the face has a small generator of its own, and those of eyes and irises are told the
gaze (``naranjuelo/GC-GAN``, PACMCGIT 7(2), 2024; Shi et al., "SemanticStyleGAN", CVPR 2022). A face
is redirected by the code that draws it: found for its own gaze, drawn with another and pasted back.
"""
