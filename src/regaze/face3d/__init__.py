"""3-D faces: FLAME's head model and everything that fits, renders and edits it.

Axes: metres, +x the subject's left, +y up, +z out of the face. Codes are dictionaries of tensors
``shape`` (B, 100), ``tex`` (B, 50), ``exp`` (B, 50), ``pose`` (B, 6), ``cam`` (B, 3), ``light``
(B, 9, 3), ``detail`` (B, 128), ``eye_pose`` (B, 6).
"""
