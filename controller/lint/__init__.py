"""What the API server would refuse an object for, found without an API server."""
