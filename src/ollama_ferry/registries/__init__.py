"""OCI registries: logins, requests, downloads and uploads. Knows digests, and neither stores nor models."""
