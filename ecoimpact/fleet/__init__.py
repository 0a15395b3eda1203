"""The log and the fleets that served it: demand hour by hour, and whose the fleet's footprint is.

Rules of this package: demand is read from the sums of the index, never from records; the parts of the groups add up to the
whole fleet, its idle hours included; what the log cannot know is an argument, and where it is not given the result names
what was assumed. It needs numpy.

    from ecoimpact import fleet
    demand = fleet.from_log("impact-log", by="label:user")
    print(fleet.footprint(demand, ManagedInference(instance="L4", zone="fr-par-2")))
"""

from ecoimpact.fleet.attributed import RULES, AttributedFootprint, Attribution, footprint
from ecoimpact.fleet.demand import Demand, GroupDemand, from_index, from_log

__all__ = ["RULES", "AttributedFootprint", "Attribution", "Demand", "GroupDemand", "footprint", "from_index", "from_log"]
