"""The online store on Redis or Valkey. Only `servers` imports the client library."""
