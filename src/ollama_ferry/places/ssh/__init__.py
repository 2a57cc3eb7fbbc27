"""A store on another host as a place."""
