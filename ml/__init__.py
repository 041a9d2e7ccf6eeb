"""From history to a promoted model."""
