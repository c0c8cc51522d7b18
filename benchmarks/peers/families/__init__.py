"""The peers, a file a family: each as an engineer would write it with the tool's own API."""
