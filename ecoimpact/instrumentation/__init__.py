"""Watching SDK calls from the outside. Nothing here knows a provider; nothing here raises into the caller.

The flow, one way: ``patch`` puts ``wrapper`` around the calls a :class:`~.provider.Provider` names -> a call begins, runs
untouched and is observed -> a plain answer is a stream of one item, ``stream`` passes on the items of a longer one -> each
item goes to the endpoint's ``Reader`` -> at the end, once, the finished :class:`~.call.Call` goes to the ``Tracer``.
"""
