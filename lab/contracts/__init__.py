"""The promises of the documentation as contracts: rows of requests and what must come back."""
