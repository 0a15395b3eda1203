"""One file a source: how its rows look, and what they say. Each names the document that its field names are from."""
