"""Face recognition: whose face is it? Networks behind one interface, for identity similarity.

Published containers (IR-SE50, iResNet-50, MobileFaceNet) are loaded strictly; without one the
workflow trains a small network on the rendered people and says how well it tells people apart.
"""

NETWORKS = ("irse50", "iresnet50", "mobilefacenet", "small", "tiny")
"""Names for ``identity.network``; the last two are trained by the workflow."""
