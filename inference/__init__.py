"""A finished run or an ensemble -> scores; likeness to the training ECGs, comparison of runs, ONNX."""
