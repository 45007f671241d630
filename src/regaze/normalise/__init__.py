"""From a photo with a known camera, head pose and gaze target to a normalised face patch.

The normalisation is the "modified" one of Zhang, Sugano and Bulling (ETRA 2018) as laid out by
``swook/faze_preprocess`` for FAZE and ST-ED: a virtual camera that looks straight at the face from
a fixed distance, the roll of the head removed.
"""
