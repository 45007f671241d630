"""One training loop for every network of the project; importing this package is cheap."""
