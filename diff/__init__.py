"""What a change of the mesh's objects means for people: access first, the objects themselves last."""
