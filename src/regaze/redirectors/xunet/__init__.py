"""The X-UNet: pose-conditioned image-to-image diffusion (3DiM), used for gaze redirection."""
