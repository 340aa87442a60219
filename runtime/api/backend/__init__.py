"""What the front ends may ask of the engine: small Protocols, implemented in runtime/ and netkit/.

    engine       all of it, events, the engine's own facts
    containers   containers and further processes in them
    images       images
    networks     networks, who may reach whom, the way of a packet, clusters

Plain methods are synchronous and may block for as long as the work takes: front ends call them
in a worker thread.  Coroutines and async iterators run on the daemon's event loop; `waiter`,
`logs` and `subscribe` are called there too, must not block, and have registered (or failed, if
the request is wrong) by the time they first wait.  Every error
is a netkit.errors.NetkitError whose `status` is the HTTP status.  `ref` is a full id, a name
(with or without the leading slash) or a unique id prefix, in this order of preference.
"""
