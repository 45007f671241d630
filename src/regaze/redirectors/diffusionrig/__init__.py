"""DiffusionRig: faces drawn by diffusion over renderings of a 3-D face and a code of the picture.

Ding et al. 2023, DiffusionRig: learning personalized priors for facial appearance editing
(``adobe-research/diffusion-rig``).
"""
