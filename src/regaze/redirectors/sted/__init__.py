"""ST-ED: faces as an appearance code and embeddings that turn with the angles they stand for.

Zheng, Park, Zhang, De Mello, Hilliges: "Self-Learning Transformations for Improving Gaze and Head
Redirection", NeurIPS 2020 (zhengyuf/STED-gaze).
"""
