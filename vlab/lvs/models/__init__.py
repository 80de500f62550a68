"""ip_vs' schedulers as pure, frozen data: servers and one arriving connection in, the server it goes to (or None) and the new
state out. ``Pool`` is where to start.

``vlab.lvs.schedulers`` says what a service must do, from what can be known of it; here the order of the kernel's list, all
counters and the scheduler's own memory are known, so the answer is one server. Each class names the file and function of
net/netfilter/ipvs/ that it is a reading of; what it leaves out is said there. Times are outside all models: nobody's cache
entry expires by itself, and connections close when the caller says so.
"""

from vlab.lvs.models.pool import Pool, scheduler
from vlab.lvs.models.server import Address, Arrival, Key, Scheduler, Server

__all__ = ["Address", "Arrival", "Key", "Pool", "Scheduler", "Server", "scheduler"]
