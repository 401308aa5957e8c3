"""What several directories of tests build with. No test module imports another one.

From outside, without the modules of ``staggerdns``: the tests see the program as its users do.

* `program`, `forkserver`: the program in a process of its own; `testbed`: with its upstreams.
* `scripted`, `behaviours`: upstreams on real sockets; `daemons`, `signed`: those of others.
* `clients`, `crowd`: who asks. `octets`: messages that no library makes.
* `ports`, `namespaces`, `clock`, `certificates`, `checkout`: where and when.
* `internet`: a network with distances.

From inside, most of it on a `task.Clock`, without sockets:

* `messages`, `acts`: wire builders, and what a simulated upstream does.
* `simulated`, `oddservers`: a resolver with simulated upstreams. `cache`, `ranked`, `probing`,
  `filling`: caches, and ways of probing.
* `upstreams` (`make_upstream`); `loopback`, `memory`, `memoryhttp`: one upstream, asked over real
  sockets or over none.
* `factory` (`make_factory`), `connections`: a server factory, and its clients in memory.
* `readings`: what tests read from metrics.

Words: *simulated* is a part of the product on a clock, with scripted neighbours; *scripted* is a
server on real sockets that does what a test says; *in memory* is a connection without sockets; a
*testbed* is the program in its process, with the scripted upstreams that it asks.
"""
