"""From history to a promoted model. Imports features and infra; serving imports its bundles."""
