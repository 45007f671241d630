"""What the 3-D stages read: head, encoder, landmarks."""

from math import radians
from os.path import isdir

from regaze.landmarks.settings import detector_options, weight_files
from regaze.sources.raw import photos_manifest

HEAD = "results/face3d/head.npz"
RENDERED = [n for n, entry in settings.datasets.items() if entry.source == "synthetic"]
# The data set that encoders are trained on: its codes are known.
SYNTHETIC = TRAINED_ON if TRAINED_ON in RENDERED else next(iter(RENDERED), None)
# Latents that are made unasked. On licensed sets they wait for a model that needs them, since the
# encoder learns on rendered faces.
HOME_LATENTS = expand(
    "results/{dataset}/latents/{encoder}/part-{shard}.parquet",
    dataset=[TRAINED_ON] if TRAINED_ON == SYNTHETIC else [],
    encoder=settings.encoders,
    shard=SHARDS,
)
# Encoders whose quality is measured, and shown where their data set is reported on.
SHOWN_ENCODERS = [
    name
    for name, entry in settings.encoders.items()
    if TRAINED_ON == SYNTHETIC and entry.published is None
]
FIRST_ENCODER = next(iter(settings.encoders), None)
MASKS_ENCODER = settings.masks.encoder or FIRST_ENCODER
ACQUIRE_ENCODER = settings.acquire.encoder or FIRST_ENCODER


def encoder_files(name):
    """The encoder's weights: what `train_deca` makes, or what is published."""
    entry = settings.encoders[name]
    if entry.published is not None:
        return {entry.class_: entry.published}
    folder = f"results/models/{name}"
    return {"weights": f"{folder}/model.safetensors", "record": f"{folder}/model.json"}


def stated_head(name):
    """The head model that weights of the user's own training belong to, if they are told."""
    stated = settings.encoders[name].head_sha256
    return {} if stated is None else {"head_sha256": stated}


def device_of(name):
    """Where an encoder runs: on a GPU if it is given one for training."""
    return "cuda" if settings.encoders[name].train.gpus else "cpu"


def mask_method(wildcards):
    """How the masks of a data set are made."""
    return settings.masks.method_for(settings.options_of(wildcards.dataset).source)


def mask_options(wildcards):
    """What the method is told besides files."""
    method = mask_method(wildcards)
    if method in ("exact", "released"):
        source = settings.options_of(wildcards.dataset).model_dump(exclude=NO_MATTER)
        return {"source": source}
    if method == "mesh":
        return {"rasterizer": settings.encoders[MASKS_ENCODER].rasterizer}
    return {}


def mask_files(wildcards):
    """What the masks of a data set are made from, by the method that is used on it."""
    method = mask_method(wildcards)
    if method in ("exact", "released"):
        return source_files(wildcards)
    if method == "parsing":
        return {"parsing": settings.masks.parsing}
    if MASKS_ENCODER is None:
        raise ValueError("masks: method 'mesh' needs an entry of encoders, found none")
    part = f"results/{{dataset}}/latents/{MASKS_ENCODER}/part-{{shard}}.parquet"
    return {"latents": part, "head": HEAD}


def acquire_files(wildcards):
    """The encoder's weights, and those of the face detector or the user's landmarks."""
    files = encoder_files(wildcards.encoder)
    if settings.acquire.landmarks is not None:
        return files | {"landmarks": settings.acquire.landmarks}
    return files | weight_files(settings.landmarks, settings.assets)


def acquired_detector():
    """What finds the faces in the user's photos, where landmarks are not given."""
    if settings.acquire.landmarks is None:
        return detector_options(settings.landmarks, settings.assets)
    return None


def acquired_photos(wildcards):
    """The photo or the folder of photos; of a folder the date tells nothing of what is in it."""
    photos = settings.acquire.photos or []
    return ancient(photos) if photos and isdir(photos) else photos


def acquired_manifest():
    """What tells that photos of the folder are others."""
    photos = settings.acquire.photos
    return photos_manifest(photos).dates if photos and isdir(photos) else ""


def one_gpu(encoder):
    """Encoding takes one GPU at most, where the encoder was trained on any."""
    return min(1, settings.encoders[encoder].train.gpus)
