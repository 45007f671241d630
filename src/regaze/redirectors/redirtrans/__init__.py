"""ReDirTrans: a code of a face is edited by what its turned embeddings say it differs by.

Jin, Wang, Wang, Bi, Nguyen: "ReDirTrans: Latent-to-Latent Translation for Gaze and Head
Redirection", CVPR 2023 (layouts of lintsao/2023_Summer_Intern). This is the paper's variant without
a pretrained generator: an encoder and a decoder like ST-ED's are trained around the edit.
"""
