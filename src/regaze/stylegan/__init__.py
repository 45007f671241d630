"""StyleGAN2, the e4e encoder that inverts it, and their checkpoints, in plain PyTorch.

Karras, Laine, Aittala, Hellsten, Lehtinen, Aila: "Analyzing and Improving the Image Quality of
StyleGAN", CVPR 2020; Tov, Alaluf, Nitzan, Patashnik, Cohen-Or: "Designing an Encoder for StyleGAN
Image Manipulation", SIGGRAPH 2021. Parameter names are those of rosinality/stylegan2-pytorch and
omertov/encoder4editing. Nothing is compiled, and every operation can be differentiated twice.
"""
