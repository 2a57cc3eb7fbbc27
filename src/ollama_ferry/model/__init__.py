"""What a model is: names, manifests, and where each has its place."""
