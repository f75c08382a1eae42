"""The Envoy router: traffic tables become xDS resources that Envoys take and acknowledge."""
