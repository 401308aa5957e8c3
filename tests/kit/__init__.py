"""What several directories of tests build with: servers, clients, messages, and parts on a clock.

From outside, without importing ``staggerdns``: the tests see the program as its users do.

* `program`, `forkserver`: the program in a process of its own; `testbed`: with its upstreams.
* `scripted`, `behaviours`: upstreams on real sockets; `daemons`, `signed`: those of others.
* `clients`, `crowd`: who asks. `ports`, `namespaces`, `clock`, `certificates`: where and when.
* `octets`: messages that no library makes. `internet`: a network with distances.

From inside, most of it on a `task.Clock`, without sockets:

* `messages`, `acts`: wire builders, and what a simulated upstream does.
* `simulated`, `oddservers`, `memory`, `loopback`: upstreams, and a forwarder in front of them.
* `probing`, `ranked`, `filling`: ways of probing, and caches.
* `factory`, `connections`: a server factory, and clients in memory.
"""
