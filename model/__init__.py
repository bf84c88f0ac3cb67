"""What people edit (settings, catalogue) and what is derived from it. Pydantic only."""
