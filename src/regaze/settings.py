"""The typed model of ``config.yaml``: every key with its type, bounds, default and meaning.

Light on purpose: the Snakefile imports it at every start, so nothing here imports torch. An
unknown key, a wrong type or a contradiction stops the run before any job, with the key's path.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
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

from regaze.assets import NETWORKS, AssetSettings
from regaze.capture_settings import Capture, Section
from regaze.entry_data import check_data, check_estimator, known
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
from regaze.redirectors.declaration import Declaration, Network, Sampling, check_labels, declared
from regaze.redirectors.inputs import KINDS as INPUT_KINDS
from regaze.redirectors.inputs import check_names
from regaze.report.settings import Evaluation, StudySettings
from regaze.resources import ResourceTable
from regaze.sources import KINDS as SOURCE_KINDS
from regaze.sources import SourceError, SourceOptions, options_class
from regaze.sources.splits import (
    SplitError,
)
from regaze.views import DEFAULT, EntryData, ViewSettings, divided, in_view

PSEUDO_MODELS = ("copy", "truth")
"""Evaluated like models: the source itself, and the true target; ceiling and floor of errors."""


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
        known("dataset", self.dataset, self.datasets)
        for name in self.evaluation.datasets or []:
            known("evaluation.datasets", name, self.datasets)
        self._check_captures()
        if self.acquire.photos is not None and not self.encoders:
            raise ValueError("acquire.photos: needs an entry of encoders, found none")
        for section in ("masks", "acquire"):
            if (encoder := getattr(self, section).encoder) is not None:
                known(f"{section}.encoder", encoder, self.encoders)
        known("evaluation.estimator", self.evaluation.estimator, self.estimators)
        if self.evaluation.encoder is not None:
            known("evaluation.encoder", self.evaluation.encoder, self.encoders)
        for name in self.evaluation.models or []:
            known("evaluation.models", name, [*PSEUDO_MODELS, *self.models])
        self._check_study(self.evaluation.study)
        if not isinstance(self.evaluation.remove_background, bool):
            for name in self.evaluation.remove_background:
                known("evaluation.remove_background", name, self.evaluated)
        for name in self.views:
            self._check_view(name)
        for name in self.estimators:
            check_estimator(self, name)
        for name, entry in self.models.items():
            check_data(self, name)
            self._check_declaration(f"models.{name}", name)
            sections = {"estimators": self.estimators, "models": self.models}
            check_labels(f"models.{name}", entry, sections)
        if self.coded and self.coder is None:
            raise ValueError(
                f"evaluation.encoder: {', '.join(self.coded)}, which an entry of models edits, "
                "is read by an entry of encoders, found none"
            )
        self.augmentation.check(self.estimators, self.models)
        for name in self.augmentation.redirectors:
            own = self.data_of(name).labelled
            if own != self.dataset and self.augmentation.redirector_labels == "subset":
                raise ValueError(
                    f"augmentation.redirectors: {name!r} is trained on {own!r}, but the labelled "
                    f"samples of the study are of {self.dataset!r}; set redirector_labels: all"
                )
        taken = {"identity": "identity"} if self.identity else {}
        for section in ("encoders", "estimators", "models"):
            for name in getattr(self, section):
                if name in taken:
                    raise ValueError(f"{section}: {name!r} is also a name in {taken[name]}")
                taken[name] = section
        if self.faces.size[0] != self.faces.size[1]:
            # An eye strip: its faces can be made, training on them is refused by its own stage.
            return self
        self._check_sizes()
        return self

    def _check_captures(self) -> None:
        """Refuse options of a rendered data set's own that do not go with those of ``capture``."""
        for name, entry in self.datasets.items():
            if entry.source == "synthetic":
                try:
                    self.capture_of(name)
                except ValidationError as error:
                    lines = _lines(error, f"datasets.{name}.capture.")
                    raise ValueError("; ".join(lines)) from None

    def _check_sizes(self) -> None:
        whole = self.faces.size
        sizes = {f"models.{n}": (m.size_px, self.faces_of(n).size) for n, m in self.models.items()}
        for name, entry in self.estimators.items():
            seen = self.faces_of(name, "estimators").size
            sizes[f"estimators.{name}"] = (entry.size_px, seen)
        if self.identity and self.identity.network in TRAINED:
            sizes["identity"] = (self.identity.size_px, whole)
        for path, (size, (width, height)) in sizes.items():
            if width % size and width == height:
                raise ValueError(f"{path}.size_px: {size} does not divide the patch width {width}")
        measured = self.estimators[self.evaluation.estimator].size_px
        for name, model in self.models.items():
            # Pictures of another view are resampled to a size that fits.
            if model.size_px % measured and self.data_of(name).view == DEFAULT:
                raise ValueError(
                    f"models.{name}.size_px: {model.size_px}, but the evaluation estimator "
                    f"{self.evaluation.estimator!r} works on {measured} px; expected a multiple"
                )

    def _check_view(self, name: str) -> None:
        """Refuse a view that no camera has, or whose labels would be others than those of faces."""
        if name == DEFAULT:
            raise ValueError(f"views: {DEFAULT!r} is the view of `faces`; expected another name")
        try:
            faces = self.faces_in(in_view(self.dataset, name))
        except ValidationError as error:
            raise ValueError("; ".join(_lines(error, f"views.{name}."))) from None
        if (faces.variant == "faze") != (self.faces.variant == "faze"):
            raise ValueError(
                f"views.{name}.variant: {faces.variant!r} looks at another point of the face than "
                f"{self.faces.variant!r} of faces, from which labels are measured"
            )

    def _check_study(self, study: StudySettings) -> None:
        for name in study.models or []:
            known("evaluation.study.models", name, self.models)
            if not self.declarations[name].denoises:
                raise ValueError(
                    f"evaluation.study.models: {name!r} samples without noise: it has neither "
                    "steps nor guidance"
                )
            own = self.models[name].sampling
            for variant, changes in study.variants().items():
                told = {key: value for key, value in changes.items() if key != "pairs"}
                try:
                    type(own).model_validate(own.model_dump() | told)
                except ValidationError as error:
                    at = f"evaluation.study: {variant} of models.{name}: sampling."
                    raise ValueError("; ".join(_lines(error, at))) from None
            if any(study.weights) and not self.declarations[name].guidable:
                raise ValueError(
                    f"evaluation.study.weights: {name!r} cannot be guided: it was trained with its "
                    "condition only (drop_prob 0); expected [0] or [], found "
                    f"{study.weights}"
                )

    def _check_declaration(self, path: str, name: str) -> None:
        """Refuse names that are not defined, a judge as a teacher, and circles of networks."""
        own = self.declarations[name]
        try:
            check_names(own)
        except ValueError as error:
            raise ValueError(f"{path}: its class {self.models[name].class_!r} {error}") from None
        for one in own.inputs:
            for option, section in INPUT_KINDS[one.kind].sections.items():
                known(f"{path}: its {option}", one.options[option], getattr(self, section))
        for one in own.networks:
            where = f"{path}: its {_ROLES.get(one.role, one.role)}"
            if one.role == "labeller":
                where = f"{path}.labels.estimator"
            known(where, one.entry, self._networks_of(one.section))
            if one.section == "estimators" and one.entry == self.evaluation.estimator:
                raise ValueError(
                    f"{path}: its {_ROLES.get(one.role, one.role)} {one.entry!r} also measures all "
                    "methods "
                    "(evaluation.estimator); learn from another one"
                )
            # The others crop and resize the face themselves.
            framed = one.section in ("estimators", "models")
            seen = self.faces_of(one.entry, one.section) if framed else None
            if seen is not None and not seen.shows_as(self.faces_of(name)):
                raise ValueError(
                    f"{where} {one.entry!r} knows faces in another view than "
                    f"{path}.data.view {self.data_of(name).view!r}; expected one that shows as much"
                )
        self._check_circles(path, [name])
        configs = {
            one.role: self.models[one.entry].resolve()
            for one in own.networks
            if one.section == "models"
        }
        try:
            self.models[name].check_networks(self.models[name].resolve(), configs)
        except ValueError as error:
            raise ValueError(f"{path}.{error}") from error

    def _check_circles(self, path: str, chain: list[str]) -> None:
        for one in self.declarations[chain[-1]].networks:
            if one.section != "models":
                continue
            known(f"models.{chain[-1]}: its {one.role}", one.entry, self.models)
            if one.entry in chain:
                raise ValueError(f"{path}: its {one.role} {one.entry!r} learns from itself")
            self._check_circles(path, [*chain, one.entry])

    def _networks_of(self, section: str) -> Iterable[str]:
        """Names of what methods may use of a section."""
        if section == "assets":
            return NETWORKS
        if section == "identity":
            return ["identity"] if self.identity else []
        return getattr(self, section)

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
        """Factors read from codes that are evaluated, since an entry in the report edits them."""
        edited = {
            factor
            for name in self.rows
            if name in self.models
            for factor in self.declarations[name].factors
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


_ROLES = {"estimator": "training estimator", "labeller": "estimator of labels"}
"""What roles of networks are called in messages, where that is not their name."""


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
        raise ValueError("; ".join(_lines(error, f"{name}."))) from error


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
        raise ValueError("; ".join(_lines(error, f"{name}."))) from error
    except ValueError as error:
        raise ValueError(f"{name}.{error}") from error
    return settings


def _lines(error: ValidationError, prefix: str = "") -> list[str]:
    lines = []
    for item in error.errors():
        location = [str(part) for part in item["loc"] if part != "[key]"]
        path = (prefix + ".".join(location)).removesuffix(".")
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "unknown key"
        elif item["type"] != "value_error":
            message = f"{message}, found {item['input']!r}"
        if item["type"] == "string_type" and not isinstance(item["input"], dict | list):
            message += "; text that YAML takes for something else needs quotes"
        # Faults of one model or data set come from its own settings and start with its name.
        separator = "." if path in ("models", "datasets") else ": " if path else ""
        lines.append(f"{path}{separator}{message}")
    return lines


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
        raise _invalid(_lines(error)) from None
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
