"""Live scores."""
