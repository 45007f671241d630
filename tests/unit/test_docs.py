"""Every link, command, file, option and configuration key that the documents name exists."""

import itertools
import json
import re
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from regaze.cli import app
from regaze.methods import method_module
from regaze.settings import Settings, load_settings
from regaze.training.settings import RedirectorTraining

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
IDS = [page.name for page in PAGES]


def plain(text):
    """Without the content of fenced code."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(page):
    found = set()
    for title in re.findall(r"^#+ (.+)$", plain(page.read_text("utf-8")), re.MULTILINE):
        kept = re.sub(r"[^\w\- ]", "", title.replace("`", "").lower())
        found.add(kept.strip().replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", plain(page.read_text("utf-8"))):
        if target.startswith(("https://", "http://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), f"{page.name}: {target}: {sorted(anchors(file))}"


def test_every_page_is_on_the_map():
    index = (ROOT / "docs/index.md").read_text("utf-8")
    missing = [p.name for p in PAGES[2:] if p.name != "index.md" and f"({p.name})" not in index]
    assert not missing
    assert "docs/index.md" in (ROOT / "README.md").read_text("utf-8")


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_named_files_of_the_repository_exist(page):
    folders = (
        r"(?:docs|configs|rules|src|tests|profiles|benchmarks|workflow_scripts|requirements|envs)"
    )
    text = page.read_text("utf-8")
    for name in re.findall(rf"(?<![\w/.<])({folders}/[\w./-]*\w)", text):
        if name.startswith("benchmarks/rules/") or (ROOT / name).exists():
            continue
        # Examples of what one would add.
        added = ("blend", "kiosk", "mymethod")
        assert any(word in name for word in added), f"{page.name}: {name}"


def words(line):
    return line.split("#")[0].split()


def code(page):
    """Lines of code and inline code of a page, continued lines joined."""
    text = page.read_text("utf-8").replace("\\\n", " ")
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += [line.strip() for line in text.splitlines() if line.startswith("    ")]
    return lines + re.findall(r"`([^`\n]+)`", plain(text))


def regaze_commands(command, prefix=()):
    for name, found in command.commands.items():
        if hasattr(found, "commands"):
            yield from regaze_commands(found, (*prefix, name))
        else:
            yield (*prefix, name), found


COMMANDS = dict(regaze_commands(get_command(app)))


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_commands_and_their_options_exist(page):
    for line in code(page):
        parts = words(line.removeprefix(".venv/bin/"))
        if len(parts) < 2 or parts[0] != "regaze" or not re.fullmatch(r"[a-z0-9-]+", parts[1]):
            continue
        name = tuple(parts[1:3]) if (parts[1],) not in COMMANDS else (parts[1],)
        assert name in COMMANDS, f"{page.name}: {line}"
        known = {o for p in COMMANDS[name].params for o in (*p.opts, *p.secondary_opts)}
        for option in re.findall(r"(?<=\s)--[a-z-]+", " ".join(parts)):
            assert option in known or option == "--help", f"{page.name}: {line}: {option}"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_make_targets_exist(page):
    known = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for line in code(page):
        parts = words(line)
        if len(parts) > 1 and parts[0] == "make" and re.fullmatch(r"[a-z]+", parts[1]):
            assert parts[1] in known, f"{page.name}: {line}"


def rules():
    found = set()
    for path in [ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk")]:
        found |= set(re.findall(r"^\s*rule (\w+):", path.read_text("utf-8"), re.MULTILINE))
    return found


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_rules_exist(page):
    text = page.read_text("utf-8")
    named = re.findall(r"\b[Rr]ule `(\w+)`|`(\w+)` rule\b", text)
    for name in (one or other for one, other in named):
        assert name in rules(), f"{page.name}: rule {name}"


SCHEMA = json.loads((ROOT / "config.schema.json").read_text("utf-8"))


def below(place, name):
    """What the schema says under a name; entries that users name lead to all kinds of them."""
    found = []
    for part in place:
        while "$ref" in part:
            part = SCHEMA["$defs"][part["$ref"].rsplit("/", 1)[-1]]
        for several in ("anyOf", "oneOf", "allOf"):
            found += below(part.get(several, []), name)
        if name in part.get("properties", {}):
            found.append(part["properties"][name])
        elif isinstance(part.get("additionalProperties"), dict):
            found.append(part["additionalProperties"])
    return found


def known_key(path):
    """Whether a dotted key such as ``landmarks.fetch`` is in the schema."""
    place = [SCHEMA]
    for name in path.split("."):
        place = below(place, name)
    return bool(place)


NAMED = ("landmarks.fetch", "sampling.seed", "models.xunet.sampling.steps")
# Sections of the same name in two methods.
NAMED += ("models.sted.network.num_2d_units", "models.xunet.network.attn_levels")


@pytest.mark.parametrize("key", NAMED)
def test_keys_are_found_in_the_schema(key):
    assert known_key(key) and not known_key(key + "x") and not known_key("x" + key)


SECTIONS = "|".join(Settings.model_fields)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "config.yaml"], ids=[*IDS, "config.yaml"])
def test_named_keys_exist(page):
    text = page.read_text("utf-8")
    for key in re.findall(rf"`((?:{SECTIONS})(?:\.[a-z_0-9]+)+)`", text):
        parts = key.split(".")
        if parts[-1] in ("py", "h5", "md", "json", "yaml", "parquet", "csv", "png"):
            continue
        assert known_key(key), f"{page.name}: {key}"


def test_the_default_models_are_those_that_the_pages_speak_of():
    settings = load_settings(yaml.safe_load((ROOT / "config.yaml").read_text("utf-8")))
    readme = (ROOT / "README.md").read_text("utf-8")
    said = re.search(r"The default trains (.*?) \(", readme, re.DOTALL).group(1)
    assert set(re.findall(r"`(\w+)`", said)) == set(settings.models)


def leaves(part, path=()):
    """Dotted keys of a part of the schema, ``*`` for names that users choose."""
    while "$ref" in part:
        part = SCHEMA["$defs"][part["$ref"].rsplit("/", 1)[-1]]
    for several in ("anyOf", "oneOf", "allOf"):
        for one in part.get(several, []):
            yield from leaves(one, path)
    for name, inner in part.get("properties", {}).items():
        yield ".".join((*path, name))
        yield from leaves(inner, (*path, name))
    if isinstance(part.get("additionalProperties"), dict):
        yield from leaves(part["additionalProperties"], (*path, "*"))


CONFIG = (ROOT / "config.yaml").read_text("utf-8")


def test_the_configuration_names_every_key():
    named = set(re.findall(r"(?<![\w.])(\w+):", CONFIG))
    keys = set(leaves(SCHEMA))
    assert len(keys) > 300
    missing = sorted(key for key in keys if key.rpartition(".")[2] not in named)
    assert not missing


def commented(title):
    """The YAML in the comment below a line of ``config.yaml``."""
    lines = CONFIG[CONFIG.index(title) :].splitlines()[1:]
    block = itertools.takewhile(lambda line: line.startswith("#   "), lines)
    return yaml.safe_load("\n".join(line[4:] for line in block))


@pytest.mark.parametrize(
    "method",
    [
        "xunet",
        "sted",
        "redirtrans",
        "inversion",
        "eyewarp",
        "gazenerf",
        "gcgan",
        "diffusionrig",
    ],
)
def test_options_in_comments_are_the_preset_of_the_default(method):
    entry = method_module(method, "settings").ModelSettings(**{"class": method})
    resolved = json.loads(json.dumps(entry.resolve()))
    for section, told in commented(f"# Of class {method}").items():
        if section in ("checkpoint", "restyle"):
            assert told is None and section not in resolved
        elif isinstance(told, dict) and section != "sampling":
            assert told.items() <= resolved[section].items(), section
        elif section != "sampling":
            assert told == resolved[section]


def test_trainings_in_comments_are_the_defaults():
    # Records leave out jitter where there is none.
    defaults = {"jitter": None} | json.loads(json.dumps(RedirectorTraining().model_dump()))
    told = commented("# What else `train` may say") | commented("# and in `models` alone:")
    assert told == {key: defaults[key] for key in told}
