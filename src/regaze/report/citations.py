"""Which work to cite for what a report shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """A publication: authors, title, where and when, and its number at arXiv if it has one."""

    authors: str
    title: str
    venue: str
    arxiv: str = ""


WORKS: Mapping[str, Work] = {
    "3dim": Work(
        "Watson, Chan, Martin-Brualla, Ho, Tagliasacchi, Norouzi",
        "Novel View Synthesis with Diffusion Models",
        "ICLR 2023",
        "2210.04628",
    ),
    "cho": Work(
        "Cho",
        "A 3D-Aware Conditional Diffusion Model for Gaze Redirection",
        "thesis, University of Stuttgart",
    ),
    "edm": Work(
        "Karras, Aittala, Aila, Laine",
        "Elucidating the Design Space of Diffusion-Based Generative Models",
        "NeurIPS 2022",
        "2206.00364",
    ),
    "dpm++": Work(
        "Lu, Zhou, Bao, Chen, Li, Zhu",
        "DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models",
        "2022",
        "2211.01095",
    ),
    "cfg": Work("Ho, Salimans", "Classifier-Free Diffusion Guidance", "2022", "2207.12598"),
    "unet": Work(
        "Ronneberger, Fischer, Brox",
        "U-Net: Convolutional Networks for Biomedical Image Segmentation",
        "MICCAI 2015",
        "1505.04597",
    ),
    "sted": Work(
        "Zheng, Park, Zhang, De Mello, Hilliges",
        "Self-Learning Transformations for Improving Gaze and Head Redirection",
        "NeurIPS 2020",
        "2010.12307",
    ),
    "faze": Work(
        "Park, De Mello, Molchanov, Iqbal, Hilliges, Kautz",
        "Few-Shot Adaptive Gaze Estimation",
        "ICCV 2019",
        "1905.01941",
    ),
    "normalisation": Work(
        "Zhang, Sugano, Bulling",
        "Revisiting Data Normalization for Appearance-Based Gaze Estimation",
        "ETRA 2018",
    ),
    "redirtrans": Work(
        "Jin, Wang, Wang, Bi, Nguyen",
        "ReDirTrans: Latent-to-Latent Translation for Gaze and Head Redirection",
        "CVPR 2023",
        "2305.11452",
    ),
    "gazenerf": Work(
        "Ruzzi, Shi, Wang, Li, De Mello, Chang, Zhang, Hilliges",
        "GazeNeRF: 3D-Aware Gaze Redirection with Neural Radiance Fields",
        "CVPR 2023",
        "2212.04823",
    ),
    "headnerf": Work(
        "Hong, Peng, Xiao, Liu, Zhang",
        "HeadNeRF: A Real-Time NeRF-Based Parametric Head Model",
        "CVPR 2022",
        "2112.05637",
    ),
    "gcgan": Work(
        "Aranjuelo, Huang, Arganda-Carreras, Unzueta, Otaegui, Pfister, Wei",
        "Learning Gaze-Aware Compositional GAN from Limited Annotations",
        "PACMCGIT 7(2), ETRA 2024",
        "2405.20643",
    ),
    "diffusionrig": Work(
        "Ding, Zhang, Xia, Jebe, Tu, Zhang",
        "DiffusionRig: Learning Personalized Priors for Facial Appearance Editing",
        "CVPR 2023",
        "2304.06711",
    ),
    "deca": Work(
        "Feng, Feng, Black, Bolkart",
        "Learning an Animatable Detailed 3D Face Model from In-the-Wild Images",
        "SIGGRAPH 2021",
        "2012.04012",
    ),
    "flame": Work(
        "Li, Bolkart, Black, Li, Romero",
        "Learning a Model of Facial Shape and Expression from 4D Scans",
        "SIGGRAPH Asia 2017",
    ),
    "gazecapture": Work(
        "Krafka, Khosla, Kellnhofer, Kannan, Bhandarkar, Matusik, Torralba",
        "Eye Tracking for Everyone",
        "CVPR 2016",
        "1606.05814",
    ),
    "mpii": Work(
        "Zhang, Sugano, Fritz, Bulling",
        "It's Written All Over Your Face: Full-Face Appearance-Based Gaze Estimation",
        "CVPR Workshops 2017",
        "1611.08860",
    ),
    "xgaze": Work(
        "Zhang, Park, Beeler, Bradley, Tang, Hilliges",
        "ETH-XGaze: A Large Scale Dataset for Gaze Estimation under Extreme Head Pose and Gaze "
        "Variation",
        "ECCV 2020",
        "2007.15837",
    ),
    "columbia": Work(
        "Smith, Yin, Feiner, Nayar",
        "Gaze Locking: Passive Eye Contact Detection for Human-Object Interaction",
        "UIST 2013",
    ),
}

_METHODS = (
    ("xunet_deca", ("cho", "3dim", "edm", "dpm++", "deca", "flame")),
    ("xunet_lite", ("unet", "edm", "dpm++", "cfg")),
    ("xunet", ("3dim", "cho", "edm", "dpm++", "cfg")),
    ("regression", ("unet",)),
    ("redirtrans", ("redirtrans", "sted")),
    ("sted", ("sted",)),
    ("gazenerf", ("gazenerf", "headnerf")),
    ("gcgan", ("gcgan",)),
    ("diffusionrig", ("diffusionrig", "deca", "flame")),
)
_DATA = (
    ("synthetic", ("flame", "gazecapture")),
    ("gazecapture", ("gazecapture",)),
    ("mpii", ("mpii",)),
    ("xgaze", ("xgaze",)),
    ("columbia", ("columbia",)),
)
ALWAYS = ("normalisation", "faze", "sted")
"""Normalisation, the way of preprocessing, and the estimators and error definitions."""


def works_of_model(name: str, kind: str = "") -> tuple[str, ...]:
    """Return the keys into :data:`WORKS` for a model, found by its name, then by its class."""
    for text in (name.lower(), kind.lower()):
        for part, keys in _METHODS:
            if part in text:
                return keys
    return ()


def works_of_dataset(name: str) -> tuple[str, ...]:
    """Return the keys into :data:`WORKS` for a data set, found by its name."""
    for part, keys in _DATA:
        if part in name.lower().replace("-", "").replace("_", ""):
            return keys
    return ()


def bibliography(keys: Sequence[str]) -> list[tuple[int, str, Work]]:
    """Return ``(number, key, work)`` once per key, numbered from 1 in order of first use."""
    unique = list(dict.fromkeys(keys))
    return [(number, key, WORKS[key]) for number, key in enumerate(unique, 1)]
