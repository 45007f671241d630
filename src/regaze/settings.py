"""The typed model of ``config.yaml``: every key with its type, bounds, default and meaning.

Light on purpose: the Snakefile imports it at every start, so nothing here imports torch. An
unknown key, a wrong type or a contradiction stops the run before any job, with the key's path.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from pydantic import (
    BaseModel,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.json_schema import models_json_schema

from regaze.assets import AssetSettings
from regaze.capture_settings import Capture, Section
from regaze.estimators.settings import EstimatorSettings
from regaze.face3d.acquire_settings import AcquireSettings
from regaze.face3d.settings import EncoderSettings
from regaze.factors import CODED, factors_named, pair_kinds
from regaze.faults import deserted, memory_faults
from regaze.few_labels.settings import AugmentationSettings
from regaze.identity.settings import TRAINED, IdentitySettings
from regaze.landmarks.settings import LandmarkSettings
from regaze.masks.settings import MaskSettings
from regaze.methods import method_module, methods
from regaze.normalise.settings import AlignedFaces, Faces
from regaze.redirectors.declaration import Declaration, Network, Sampling, declared
from regaze.report.settings import Evaluation
from regaze.resources import ResourceTable
from regaze.settings_checks import PSEUDO_MODELS, check_references, lines_of
from regaze.sources import KINDS as SOURCE_KINDS
from regaze.sources import SourceError, SourceOptions, options_class
from regaze.sources.splits import (
    SplitError,
)
from regaze.views import DEFAULT, EntryData, ViewSettings, divided, in_view


class ConfigurationError(ValueError):
    """The configuration is not usable; the message lists each key's path and what is expected."""


class Settings(Section):
    """The whole configuration."""

    seed: int = Field(0, ge=0, description="seed of data, training and pairs")
    shards: int = Field(4, ge=1, le=999, description="files per data set; never changes a result")
    dataset: str = Field("synthetic", description="entry of datasets that is trained on")
    datasets: dict[str, Any]
    capture: Capture = Capture()
    landmarks: LandmarkSettings = LandmarkSettings()
    faces: Faces = Faces()
    views: dict[str, ViewSettings] = Field(
        {}, description="further views of faces by name, for entries of models"
    )
    encoders: dict[str, EncoderSettings] = Field(
        {}, description="3-D face encoders by name, whose codes are the stage latents"
    )
    estimators: dict[str, EstimatorSettings]
    models: dict[str, Any]
    sampling: Sampling = Sampling()
    evaluation: Evaluation = Evaluation()
    identity: IdentitySettings | None = Field(
        None, description="the face recogniser of identity_similarity; null for none"
    )
    masks: MaskSettings = MaskSettings()
    acquire: AcquireSettings = AcquireSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    assets: AssetSettings = AssetSettings()
    resources: ResourceTable = ResourceTable()

    @field_validator("datasets", "views", "encoders", "estimators", "models")
    @classmethod
    def _names(cls, entries):
        for name in entries:
            if not name.replace("_", "").replace("-", "").isalnum() or name in PSEUDO_MODELS:
                raise ValueError(
                    f"{name!r} is no name: letters, digits, '-' and '_', and none of "
                    f"{', '.join(PSEUDO_MODELS)}"
                )
        return entries

    @field_validator("datasets")
    @classmethod
    def _datasets(cls, entries):
        return {name: _dataset_options(name, entry) for name, entry in entries.items()}

    @field_validator("models")
    @classmethod
    def _models(cls, entries):
        # Overlays leave a model out by null.
        return {
            name: _model_settings(name, entry)
            for name, entry in entries.items()
            if entry is not None
        }

    @field_validator("sampling", mode="before")
    @classmethod
    def _sampling(cls, given):
        owners = {
            option: name
            for name in methods()
            for option in _method_settings(name).model_fields["sampling"].annotation.model_fields
        }
        if isinstance(given, dict) and (moved := [key for key in given if key in owners]):
            raise ValueError(
                f"{', '.join(map(str, moved))}: expected in the section of each model, "
                f"models.<name>.sampling.{moved[0]} of class {owners[moved[0]]!r}, found here"
            )
        return given

    @model_validator(mode="after")
    def _references(self):
        check_references(self)
        return self

    def network_options(self, one: Network) -> dict[str, str]:
        """What is told of a network that is not trained here; see
        :class:`regaze.redirectors.inputs.NetworkFile`."""
        if one.section == "encoders":
            return self.encoders[one.entry].weights
        if one.section != "assets":
            return {}
        own = getattr(self.assets, one.entry).sha256
        return {"asset": one.entry, **({} if own is None else {"sha256": own})}

    def network_weights(self, one: Network) -> str:
        """The file of the weights of a network."""
        if one.section == "assets":
            return getattr(self.assets, one.entry).path
        if one.section == "encoders" and (given := self.encoders[one.entry].published):
            return given
        return f"results/models/{one.entry}/model.safetensors"

    @cached_property
    def declarations(self) -> dict[str, Declaration]:
        """What every entry of ``models`` reads and uses."""
        return {name: declared(entry) for name, entry in self.models.items()}

    @property
    def coded(self) -> list[str]:
        """Factors read from codes that are evaluated: entries in the report edit or keep them."""
        edited = {
            factor
            for name in self.rows
            if name in self.models
            for factor in (*self.declarations[name].factors, *self.declarations[name].kept)
        }
        return [name for name in CODED if name in edited]

    @property
    def coder(self) -> str | None:
        """The entry of ``encoders`` that reads :attr:`coded`."""
        return self.evaluation.encoder or next(iter(self.encoders), None)

    @property
    def pair_counts(self) -> dict[str, int]:
        """Pairs per kind of what is evaluated."""
        counts = self.evaluation.pairs.model_dump()
        return {name: counts[name] for name in pair_kinds(factors_named(self.coded))}

    def seen_by(self, name: str) -> list[str]:
        """Data sets that an entry of ``models`` sees, in its training or while it is sampled."""
        data = self.data_of(name)
        evaluated = self.evaluated if name in self.rows else []
        return list(dict.fromkeys(filter(None, [data.labelled, data.unlabelled, *evaluated])))

    def data_of(self, model: str) -> EntryData:
        """The data of an entry of ``models``, with what it leaves out."""
        data = self.models[model].data
        return data if data.labelled else data.model_copy(update={"labelled": self.dataset})

    def faces_of(self, name: str, section: str = "models") -> Faces:
        """How faces are normalised for an entry of ``models``, or of ``estimators``."""
        entry = getattr(self, section)[name]
        view = entry.data.view if section == "models" else entry.view
        return self.faces_in(in_view(self.dataset, view))

    def faces_in(self, name: str) -> Faces:
        """How faces of a data set in a view are normalised."""
        view = divided(name)[1]
        if view == DEFAULT:
            return self.faces
        made = self.views[view].over(self.faces.model_dump())
        return (AlignedFaces if "framing" in made else Faces).model_validate(made)

    def options_of(self, name: str) -> SourceOptions:
        """The entry of ``datasets`` of a data set in a view."""
        return self.datasets[divided(name)[0]]

    def capture_of(self, name: str) -> Capture:
        """What is rendered for a data set: ``capture``, and what its entry says otherwise."""
        return self.capture.over(self.options_of(name).capture)

    @property
    def personal(self) -> list[str]:
        """Entries of ``models`` that have a model per person."""
        return [name for name, entry in self.models.items() if entry.data.per]

    @cached_property
    def face_sets(self) -> list[str]:
        """Data sets in the views in which something reads them, the evaluated ones first."""
        found = dict.fromkeys(self.evaluated)
        found |= {in_view(self.dataset, one.view): None for one in self.estimators.values()}
        for name in self.models:
            view = self.data_of(name).view
            found |= dict.fromkeys(in_view(dataset, view) for dataset in self.seen_by(name))
        return list(found)

    def first_view(self, dataset: str) -> str:
        """A data set in the first view that something reads.

        Photos are lost in all of a virtual camera or in none; others lose more.
        """
        found = [one for one in self.face_sets if divided(one)[0] == dataset]
        return min(found, key=lambda one: self.faces_in(one).aligned, default=dataset)

    @property
    def read(self) -> list[str]:
        """Data sets that something reads, in whichever view."""
        return list(dict.fromkeys(divided(name)[0] for name in self.face_sets))

    @property
    def evaluated(self) -> list[str]:
        """Data sets that methods are evaluated on, the one trained on first."""
        return list(dict.fromkeys([self.dataset, *(self.evaluation.datasets or [])]))

    def needed_lists(self, dataset: str) -> dict[str, str]:
        """Lists of a data set's split in which somebody must be, each with the first who needs it.

        Networks learn from a list and are validated on ``val``, estimators and the recogniser are
        measured on ``test``; published ones take what there is.
        """
        found: dict[str, str] = {}
        if dataset in self.evaluated:
            found[self.evaluation.split] = "evaluation.split"
        train, val, test = "train-redirector", "val", "test"
        for name, entry in self.models.items():
            learns = self.declarations[name].published is None
            if learns and not entry.data.per and self.data_of(name).labelled == dataset:
                found = dict.fromkeys((train, val), f"models.{name}") | found
            if learns and self.data_of(name).unlabelled == dataset:
                found.setdefault(train, f"models.{name}")
        if dataset != self.dataset:
            return found
        for name, entry in self.estimators.items():
            if entry.checkpoint is None:
                found = dict.fromkeys((entry.persons, val, test), f"estimators.{name}") | found
        if self.identity:
            learnt = (self.identity.persons,) if self.identity.network in TRAINED else ()
            found = dict.fromkeys((*learnt, test), "identity") | found
        return found

    @property
    def weighted(self) -> list[str]:
        """Models that are also sampled with the guidance weights of ``sampling.max_w``."""
        if not self.sampling.weights:
            return []
        return [
            name for name in self.rows if name in self.models and self.declarations[name].guidable
        ]

    @property
    def animated(self) -> list[str]:
        """Models whose way from noise to picture is animated, if it is at all."""
        if not self.sampling.save_gif:
            return []
        return [
            name for name in self.rows if name in self.models and self.declarations[name].denoises
        ]

    def sampling_of(self, model: str) -> dict[str, Any]:
        """All that decides the pictures of a model besides weights, none for pseudo-models."""
        if model not in self.models:
            return {}
        shared = self.sampling.model_dump(exclude={"max_w", "sample_only", "save_gif"})
        return {**shared, **self.models[model].sampling.model_dump()}

    def without_background(self, dataset: str) -> bool:
        """Whether sources and targets of a data set lose their background."""
        chosen = self.evaluation.remove_background
        return chosen if isinstance(chosen, bool) else dataset in chosen

    @property
    def rows(self) -> list[str]:
        """Methods in the report, pseudo-models first."""
        return list(self.evaluation.models or [*PSEUDO_MODELS, *self.models])


def _dataset_options(name: str, entry: Any) -> SourceOptions:
    """Validate one entry of ``datasets:`` by the options of its kind."""
    if not isinstance(entry, dict) or "source" not in entry:
        raise ValueError(f"{name}.source: missing; expected one of {', '.join(SOURCE_KINDS)}")
    try:
        options = options_class(entry["source"])
    except SourceError as error:
        raise ValueError(f"{name}.{error}") from error
    try:
        return options.model_validate(entry)
    except ValidationError as error:
        raise ValueError("; ".join(lines_of(error, f"{name}."))) from error


def _model_settings(name: str, entry: Any):
    """Validate one entry of ``models:`` by its own method's settings."""
    if not isinstance(entry, dict) or "class" not in entry:
        raise ValueError(f"{name}.class: missing; expected one of {', '.join(methods())}")
    if entry["class"] not in methods():
        raise ValueError(
            f"{name}.class: unknown class {entry['class']!r}; expected one of "
            f"{', '.join(methods())}"
        )
    try:
        settings = _method_settings(entry["class"]).model_validate(entry)
        settings.resolve()
    except ValidationError as error:
        raise ValueError("; ".join(lines_of(error, f"{name}."))) from error
    except ValueError as error:
        raise ValueError(f"{name}.{error}") from error
    return settings


def _octals(config: Any, settings: Any, path: str = "") -> Iterator[str]:
    """A line for each text that became a number and is another one without its quotes."""
    if isinstance(config, dict) and isinstance(settings, dict):
        for key in config.keys() & settings.keys():
            yield from _octals(config[key], settings[key], f"{path}.{key}" if path else key)
    elif isinstance(config, list) and isinstance(settings, list | tuple):
        for number, (text, value) in enumerate(zip(config, settings, strict=False)):
            yield from _octals(text, value, f"{path}.{number}")
    elif isinstance(config, str) and type(settings) in (int, float):
        octal = re.fullmatch("[-+]?0[0-7_]+", config)
        if octal and int(config, 8) != settings:
            yield (
                f"{path}: expected a number without leading zeros, found {config!r}, which is "
                f"{settings} to some readers of YAML and {int(config, 8)} to others"
            )


def load_settings(config: dict) -> Settings:
    """Check a configuration as merged by Snakemake from its files and command line.

    Split files that it names are read and checked as well, when they exist, and whether somebody
    is in the lists that are needed, as far as the configuration tells.

    Raises:
        ConfigurationError: with one line per fault.
    """
    try:
        settings = Settings.model_validate(config)
    except ValidationError as error:
        raise _invalid(lines_of(error)) from None
    faults = list(_octals(config, settings.model_dump(by_alias=True)))
    for name in settings.datasets:
        try:
            faults += deserted(settings, name)
        except SplitError as error:
            faults.append(f"datasets.{name}.split: {error}")
    if faults := faults + memory_faults(settings):
        raise _invalid(faults)
    return settings


def _invalid(faults: list[str]) -> ConfigurationError:
    return ConfigurationError("invalid configuration:\n" + "\n".join(f"  {f}" for f in faults))


def json_schema() -> str:
    """The JSON schema of ``config.yaml``, for editors; checked in as ``config.schema.json``."""
    classes = {
        "models": [_method_settings(name) for name in methods()],
        "datasets": [options_class(kind) for kind in SOURCE_KINDS],
    }
    all_classes = [(one, "validation") for one in (Settings, *sum(classes.values(), []))]
    # Together, so that sections of one name in several methods stay apart.
    references, schema = models_json_schema(all_classes, by_alias=True)
    defs = schema["$defs"]
    schema |= defs.pop(references[Settings, "validation"]["$ref"].rpartition("/")[2])
    for section, entries in classes.items():
        schema["properties"][section] = {
            "type": "object",
            "title": section.capitalize(),
            "description": f"{section} by name",
            "additionalProperties": {"anyOf": [references[one, "validation"] for one in entries]},
        }
    schema["properties"]["models"]["additionalProperties"]["anyOf"].append({"type": "null"})
    return json.dumps(schema, indent=1, sort_keys=True) + "\n"


def _method_settings(name: str) -> type[BaseModel]:
    return method_module(name, "settings").ModelSettings
