"""regaze: gaze and head redirection, trained and compared in one workflow."""

__version__ = "0.1.0"
