"""The offline store on Delta Lake. The only place that imports `deltalake`."""
