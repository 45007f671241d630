"""ReDirTrans-GAN: the edit of a frozen encoder's codes, drawn by its frozen generator.

Jin et al., CVPR 2023. Only projector and deprojector are trained; what is redirected, and what is
learnt from, are inversions.
"""
