"""The model: layers, components and the whole. Knows no process groups, files, environment or logging."""
