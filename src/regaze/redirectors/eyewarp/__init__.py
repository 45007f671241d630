"""Eyes that are moved rather than painted: a displacement per pixel of the strip around both eyes.

After Ganin, Kononenko, Sungatullina, Lempitsky: "DeepWarp: Photorealistic Image Resynthesis for
Gaze Manipulation", ECCV 2016: a network is shown the eyes and told where to look, and answers where
each pixel of the new picture is to be taken from in the old one, and what little has to be painted
because it was not to be seen. The displacements go on to the photo, whose own pixels are moved, so
that eyes stay as sharp as they were.
"""
