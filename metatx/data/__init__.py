"""Tables, folders and arrays of a user as samples and targets, and these as tensors."""
