"""Finished requests on their way from the caller to exporters and to the log on disk.

Rule of this room: it imports the standard library and ``ecoimpact.types`` only, and nothing in it raises into the host. For
Parquet it uses pyarrow, and ``ecoimpact.storage`` where that is in an object store, and imports them then.
"""
