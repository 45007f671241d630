"""Synthetic capture: procedural heads rendered into a GazeCapture root with exact truth."""

from regaze.capture.head import HeadConfig, build_head, load_head
from regaze.capture.writer import CaptureConfig, render_capture, render_person

__all__ = [
    "CaptureConfig",
    "HeadConfig",
    "build_head",
    "load_head",
    "render_capture",
    "render_person",
]
