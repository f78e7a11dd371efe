"""Tasks on disk and on the hub, with their cards."""
