"""The lab's node: namespaces of our own for network, mounts and processes, and what runs in them."""
