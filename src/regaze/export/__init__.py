"""Trained redirectors as graphs of ONNX, which run without PyTorch and in a browser."""
