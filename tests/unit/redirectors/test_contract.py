"""The contract: every method keeps it, and each check finds a method that does not."""

import re

import method_folders
import pytest
from method_folders import REDIRECTOR, SETTINGS

from regaze.estimators.settings import EstimatorSettings
from regaze.methods import method_module
from regaze.redirectors.bench import Bench
from regaze.redirectors.checks import CHECKS, NotApplicable, Outcome, run_checks, table

VGG = {
    name: EstimatorSettings(arch="vgg", persons="train-redirector", preprocess=preprocess)
    for name, preprocess in (("vgg", "none"), ("equalised", "equalise"))
}
CODES = {"class": "xunet", "preset": "small", "network": {"code": "film"}}
ENTRIES = {
    "xunet": {"class": "xunet", "preset": "small"},
    "told": CODES | {"deca": {"target_code": "target"}},
    "student": {"class": "xunet", "network": {"frames": 1}, "distil": {"teacher": "xunet_lite"}},
    "sted": {"class": "sted", "preset": "reference", "size_px": 128, "estimator": "equalised"},
    "redirtrans": {"class": "redirtrans", "preset": "reference", "size_px": 128},
    "gan": {"class": "redirtrans_gan", "preset": "reference", "inverter": "inverter"},
    "eyewarp": {"class": "eyewarp"},
    "inverter": {"class": "inversion", "objective": {"path": 2.0, "features": 1.0}},
    "field": {"class": "gazenerf", "objective": {"angular": 1e-4, "codes": "source"}},
    "rig": {"class": "diffusionrig", "variant": "gaze"},
    "branch": {"class": "gazenerf", "variant": "headnerf_gaze", "objective": {"crop": 6}},
}
WHOLE = ("told", "student", "branch")
LITE = {"class": "xunet", "network": {"frames": 1}}


def entries(named):
    made = {
        name: method_module(entry["class"], "settings").ModelSettings(**entry)
        for name, entry in named.items()
    }
    return made


@pytest.fixture(scope="module")
def benches(tmp_path_factory):
    """A bench per entry, whose training is shared by its checks."""
    models, made = entries(ENTRIES | {"xunet_lite": LITE}), {}

    def bench(name):
        if name not in made:
            made[name] = Bench(name, models, VGG, tmp_path_factory.mktemp(name))
        return made[name]

    return bench


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.whole] * (name in WHOLE)) for name in ENTRIES],
)
def test_every_method_keeps_the_contract(benches, name, check):
    try:
        CHECKS[check](benches(name))
    except NotApplicable as reason:
        pytest.skip(str(reason))


def test_no_check_is_without_a_method_that_it_applies_to(benches):
    """What is skipped above is checked by another entry."""
    applies = set()
    for name in ENTRIES:
        own = benches(name).declaration
        applies |= {"guidance"} if own.guidable else set()
        applies |= {"several sources"} if own.several_sources else set()
        applies |= {"unlabelled"} if own.unlabelled_targets else set()
        applies |= {"unknown inputs"} if own.inputs else set()
    assert applies == {"guidance", "several sources", "unlabelled", "unknown inputs"}


LOSS = 'return {"loss": (made - batch["target"]).abs().mean()}'
MADE = "return self._made(state, target)"
FORWARD = "return self.net(source, shares.expand(len(angles), -1, -1, -1), angles)"
DECLARED = 'return Declaration(inputs=(Input("masks", {"names": ["eyes"]}),))'
MASKS = 'inputs=(Input("masks", {"names": ["eyes"]}),)'
NETWORK = "    @property\n    def network(self):\n        return self.net\n"
LABELS = 'batch["target_gaze"].abs().mean()'


def more(code):
    """A method of the class besides, or in place of one that it inherits."""
    return NETWORK, NETWORK + code


BROKEN = {
    # check: (what is replaced in settings, in the redirector, what is told)
    "declaration": [
        ([("from pydantic", "import torch\nfrom pydantic")], [], "imports torch"),
        (
            [(DECLARED, f'names = config["train"]["betas"]\n        {DECLARED[:-1]}, '
              'condition="a" if isinstance(names, tuple) else "b")')],
            [],
            "options that model.json keeps",
        ),
        ([(DECLARED, DECLARED.replace(")),))", ')), Input("masks", {"names": ["head"]})))')
           .replace('}),))', '}), Input("masks", {"names": ["head"]})))'))], [],
         "kinds of input .'masks', 'masks'.; expected each once"),
        ([(MASKS, f'{MASKS}, networks=(Network("a b", "estimators", "vgg"),)')], [],
         "declares a network as 'a b'; expected a name"),
        ([(MASKS, f'{MASKS}, condition=" "')], [], "condition: expected words"),
    ],
    "building": [
        ([], [more("\n    @property\n    def saved(self):\n        return nn.Linear(2, 2)\n")],
         "averaged|saved: expected a part of network"),
        ([], [more("\n    @property\n    def averaged(self):\n        return nn.Linear(2, 2)\n")],
         "averaged: expected a part"),
        ([], [more("\n    def phases(self):\n        return [Phase('a', [nn.Parameter()])]\n")],
         "phase a: trains what is no part of network"),
        ([], [("def build(config, sampling):",
               "def build(config, sampling):\n    1 / (type(config['train']['betas']) is tuple)")],
         "ZeroDivisionError"),
    ],
    "learning": [
        ([], [(LOSS, LOSS.replace('.mean()}', '.mean() / 0}'))], "phase main: loss is inf"),
        ([], [(LOSS, 'return {"loss": (made.detach() - self.net.angles.bias.sum() * 0).mean()}')],
         "its loss reaches none of its parameters"),
        (
            [(MASKS, f'{MASKS}, networks=(Network("estimator", "estimators", "vgg"),)')],
            [
                more("\n    def attach(self, networks):\n"
                     "        self.estimator = networks['estimator'].requires_grad_(True)\n"),
                (LOSS, "large = nn.functional.interpolate(made, size=16)\n"
                 "        read = self.estimator(large)[0]\n"
                 '        return {"loss": made.abs().mean() + read.abs().mean()}'),
            ],
            "estimator: expected frozen, found gradients",
        ),
    ],
    "validation": [
        ([], [more("\n    def validation_loss(self, batch, at):\n"
                   "        return torch.autograd.grad(self._made(batch, batch).sum(),"
                   " self.net.angles.bias)[0].sum()\n")], "RuntimeError: element 0 of tensors"),
        ([], [(LOSS, LOSS.replace(".mean()}", ".mean() + torch.rand(())}"))],
         "expected the same number again"),
    ],
    "reloading": [
        ([], [("self.net = Net()", "self.net = Net()\n        self.extra = nn.Conv2d(3, 3, 1)"),
              more("\n    @property\n    def saved(self):\n        return self.net.angles\n")],
         "pictures of the reloaded model: they differ"),
        ([], [(LOSS, LOSS.replace(".mean()}", ".mean() * 0}"))], "no weight has changed"),
    ],
    "resuming": [
        ([], [("self.net = Net()", "self.net, self.calls = Net(), 0"),
              (LOSS, "self.calls += 1\n        " + LOSS.replace(".mean()}", ".mean() * self.calls"
               " + self.net.angles.bias.sum() * self.calls}"))],
         "other weights after a resume"),
    ],
    "pictures": [
        ([], [(MADE, f"{MADE} * 300")], "expected values from -1 to 1"),
        ([], [(MADE, f"{MADE}[..., :8]")], r"expected \(\d+, 3, 16, 16\), found \(\d+, 3, 16, 8\)"),
        ([], [(MADE, f"{MADE} * float('nan')")], "found NaN or infinity"),
        ([], [more("\n    def describe_sampling(self):\n        return {'sampler': 'own'}\n")],
         "describe_sampling: lacks guidance"),
        ([], [more("\n    def evaluations_per_image(self):\n        return 0\n")],
         "evaluations_per_image: found 0"),
    ],
    "rows alone": [
        ([], [("self.angles, self.colours = ", "self.norm = nn.BatchNorm2d(3, "
               "track_running_stats=False)\n        self.angles, self.colours = "),
              ("torch.tanh(x +", "torch.tanh(self.norm(x) +")], "alone and among"),
    ],
    "seed": [([], [(MADE, f"{MADE} * torch.rand(())")], "other pictures of the same seed")],
    "edit of invert": [
        ([], [more("\n    def redirect(self, batch, *, seed):\n"
                   "        return self._made(batch, batch) / 2\n")],
         "edit of invert, and redirect"),
        ([], [("return dict(source)", "return {k: v.clone() for k, v in source.items()}"),
              (MADE, "made = self._made(state, target)\n"
               "        state['source'] += 0.1\n        return made")],
         "the same edit after another one"),
    ],
    "one source": [
        ([], [(MADE, "assert len(state['source']) == len(target['pair'])\n        " + MADE)],
         "AssertionError"),
        ([], [("return dict(source)", "return {**source, 'source': source['source'] * "
               "len(source['source'])}")], "pictures of one source"),
    ],
    "mirroring": [
        ([('{"flip": False}', '{"flip": True}'),
          (MASKS, 'inputs=(Input("codes", {"encoder": "deca", "parts": ["pose"]}),)')],
         [("shares = torch.where(known, state[\"source_masks\"], 0)",
           "shares = state['source'][:, :1]"), ("source_masks_known", "source_codes_known")],
         "codes of mirrored faces are not known"),
        ([('{"flip": False}', '{"flip": True}')],
         [(LOSS, LOSS.replace(".mean()}", ".mean() / (batch['source_row'] < 0).sum()}"))],
         "loss of mirrored pairs is inf"),
        ([('{"flip": False}', '{"flip": True}')], [(MADE, f"{MADE} * 0")],
         "pictures of mirrored pairs are those of the pairs"),
    ],
    "angles": [
        ([], [(FORWARD, f"angles = angles * 0 + angles[:, :2].sum(1, True) + angles[:, 2:] @ "
               f"torch.tensor([[1.0], [2.0]])\n        {FORWARD}")],
         "gaze: exchanged pitch and yaw change no picture"),
        ([], [(FORWARD, f"angles = angles * torch.tensor([1.0, 2, 0, 0])\n        {FORWARD}")],
         "head: exchanged pitch and yaw change no picture"),
    ],
    "unknown inputs": [
        ([], [('shares = torch.where(known, state["source_masks"], 0)',
               'shares = state["source_masks"]')], "rows that are not known"),
    ],
    "unlabelled": [
        ([(MASKS, f"{MASKS}, unlabelled_targets=True")], [],
         "losses of unknown labels of 0 and of 1"),
    ],
    "guidance": [
        ([(MASKS, f"{MASKS}, guidable=True")], [], "TypeError.*'weights'"),
        ([(MASKS, f"{MASKS}, guidable=True")],
         [("def edit(self, state, target, *, seed):",
           "def edit(self, state, target, *, seed, weights=None):\n"
           "        if weights:\n"
           "            return self._made(state, target)[None].repeat(len(weights), 1, 1, 1, 1)")],
         "weights 0 and 1 make the same pictures"),
    ],
    "path": [
        ([(MASKS, f"{MASKS}, denoises=True")], [], "found the pictures alone"),
        ([], [more("\n    def record_path(self, state, target, *, seed):\n"
                   "        return self.edit(state, target, seed=seed)[None] / 2\n")],
         "the last frame, and the pictures"),
    ],
    "several sources": [
        ([(MASKS, f"{MASKS}, several_sources=True")], [], "sources: expected several, found 1"),
        ([(MASKS, f"{MASKS}, several_sources=True")],
         [more("\n    @property\n    def sources(self):\n        return 2\n"),
          (MADE, "made = self._made(state, target)\n"
           "        return made + state['sources'].mean() if 'sources' in state else made")],
         r"rows \[2, 0\] alone and among others"),
    ],
    "turning": [
        ([], [more("\n    def angles(self):\n        return {'gaze': 2}\n"
                   "\n    def reconstruct(self, state, *, seed):\n        return state['source']\n"
                   "\n    def perturb(self, state, factor, change, *, seed):\n"
                   "        return state['source']\n")], "gaze: turning has no effect"),
    ],
    "unlabelled set": [
        ([(MASKS, f"{MASKS}, unlabelled=True")], [], "other unlabelled pictures change no loss"),
    ],
    "start": [
        ([], [more("\n    def load_start(self, state):\n"
                   "        self.net.load_state_dict(state, strict=False)\n")],
         "load_start: expected a refusal, .* is missing"),
        ([], [more("\n    def load_start(self, state):\n"
                   "        if set(state) != set(self.net.state_dict()):\n"
                   "            raise ValueError('other keys')\n")],
         "is missing: not named in: other"),
    ],
    "published": [
        ([], [more("\n    def load_reference(self, state, config):\n"
                   "        wanted = self.net.state_dict()\n"
                   "        if missing := wanted.keys() - state.keys():\n"
                   "            raise ValueError(f'missing {missing}')\n"
                   "        self.net.load_state_dict({key: state[key] for key in wanted})\n")],
         "load_reference: expected a refusal, .* is unexpected"),
    ],
}  # fmt: skip


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """Makes a bench of a small method whose sources differ as told."""
    method_folders.beside(monkeypatch, tmp_path / "methods")

    def made(settings=(), redirector=()):
        sources = []
        for text, changes in ((SETTINGS, settings), (REDIRECTOR, redirector)):
            for old, new in changes:
                assert text.count(old) == 1, old
                text = text.replace(old, new)
            sources.append(text)
        method_folders.write(tmp_path / "methods", "small", *sources)
        return Bench("small", entries({"small": {"class": "small"}}), VGG, tmp_path / "bench")

    (tmp_path / "bench").mkdir()
    yield made
    method_folders.forget("regaze.redirectors.small")


def test_a_method_without_faults_passes_everything(bench):
    outcomes = list(run_checks(bench([('{"flip": False}', '{"flip": True}')])))
    assert [one.check for one in outcomes if one.state == "passed"] == [
        "declaration", "building", "learning", "validation", "reloading", "resuming", "pictures",
        "rows alone", "seed", "edit of invert", "one source", "mirroring", "angles",
        "unknown inputs", "path", "start", "published",
    ]  # fmt: skip
    assert not [one for one in outcomes if one.state == "failed"]
    assert all(one.reason for one in outcomes if one.state == "not applicable")


@pytest.mark.parametrize(
    ("check", "settings", "redirector", "message"),
    [(check, *one) for check, several in BROKEN.items() for one in several],
)
def test_each_check_finds_a_method_that_breaks_it(bench, check, settings, redirector, message):
    broken = bench(settings, redirector)
    outcome = {one.check: one for one in run_checks(broken, [check])}[check]
    assert outcome.state == "failed"
    assert re.search(message, outcome.reason), outcome.reason


def test_every_check_is_broken_by_a_method():
    assert BROKEN.keys() == CHECKS.keys()


def test_long_reasons_stay_in_their_column():
    lines = table(Outcome("seed", "failed", "word " * 30), 80).splitlines()
    assert len(lines) > 1 and all(len(line) <= 80 for line in lines)
    start = lines[0].index("word")
    assert all(line[:start].isspace() for line in lines[1:])
