"""One module per concern of the mesh: the pure builders of its objects and their component."""
