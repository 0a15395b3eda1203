"""The start-up hook of ``ecoimpact run``. This folder is put first on ``PYTHONPATH``: nothing else may lie in it."""
