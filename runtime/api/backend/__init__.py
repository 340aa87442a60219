"""Protocols between the API's handlers and the engine, implemented in runtime/ and netkit/.

    engine       all of them, events, facts on the engine
    containers   containers and further processes in them
    images       images
    builds       builds of images
    volumes      volumes
    networks     networks, access rules, traces of packets, clusters

Plain methods are synchronous and may block for as long as the work takes: front ends call them
in a worker thread.  Coroutines and async iterators run on the daemon's event loop; `waiter`,
`logs` and `subscribe` are called there too, must not block, and have registered (or failed, if
the request is invalid) before they first wait.  Every error is a netkit.errors.NetkitError whose
`status` is the HTTP status.  `ref` is a full id, a name (with or without the leading slash) or a
unique id prefix, in this order of preference.
"""
