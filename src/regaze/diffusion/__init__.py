"""Noise schedules, preconditioning, guidance, samplers and averages, for any denoiser."""
