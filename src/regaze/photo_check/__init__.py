"""How well a redirector moves the eyes of real people, of whom no truth is known.

``check_photos`` redirects photos to a fixed set of directions and measures the pasted photos, with
a control beside them: the photo's own irises, cut out and moved by hand.
"""
