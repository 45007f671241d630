"""From bare photos to head poses: landmarks, then poses and targets, each a stage of its own."""
