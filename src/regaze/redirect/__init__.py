"""``regaze redirect``: photos in, photos with another gaze or head pose out."""
