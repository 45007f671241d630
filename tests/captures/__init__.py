"""Small captures in the layouts of public data sets, made of rendered heads with known truth."""
