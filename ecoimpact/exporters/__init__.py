"""Where records go besides the log: one file for each destination.

An exporter is anything that can be called with a :class:`~ecoimpact.types.Record`; it runs on a thread of its own. Those
here know the record and the public functions of the package, no other room.
"""
