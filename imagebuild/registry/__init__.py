"""The client of container registries: names, logins, pulls, and blobs kept on disk."""
