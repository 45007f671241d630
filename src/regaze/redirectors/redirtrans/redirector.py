"""ReDirTrans as a redirector: ST-ED's training and redirection on networks that edit a code."""

from __future__ import annotations

from collections.abc import Mapping

from regaze.redirectors.base import Redirector
from regaze.redirectors.redirtrans.network import RedirTransNetwork, build_network
from regaze.redirectors.redirtrans.objective import RedirTransObjective
from regaze.redirectors.sted.redirector import StedRedirector


class RedirTransRedirector(StedRedirector):
    """An encoder and a decoder around an edit; see :mod:`regaze.redirectors.redirtrans`."""

    objective_type = RedirTransObjective

    # Weights of this variant were never published: its layout is this project's.
    read_reference = Redirector.read_reference
    reference_state = Redirector.reference_state
    load_reference = Redirector.load_reference

    @staticmethod
    def built(config: Mapping, *, adversarial: bool) -> RedirTransNetwork:
        """The untrained networks of a resolved configuration."""
        return build_network(config["network"], config["size_px"], adversarial=adversarial)


def build(config: dict, sampling: dict) -> RedirTransRedirector:
    """Build the redirector of a resolved configuration; it does not sample."""
    return RedirTransRedirector(config)
