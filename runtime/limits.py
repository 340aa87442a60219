"""Bounds on untrusted input: archives, documents, requests.

docs/limits.md lists all of them with reasons; tests/unit/runtime/test_limits.py compares them.
Code reads them as `limits.NAME` when it needs them, so that a test can lower one.
"""

from __future__ import annotations

# Tar archives: import, load, cp
ARCHIVE_ENTRIES = 4_000_000  # headers of one archive, extension headers included
ARCHIVE_BYTES = 64 << 30  # of the files of one archive, holes of sparse files included
HEADER_BYTES = 1 << 20  # PAX records and GNU long names of one member; Go's archive/tar: the same
NAME_BYTES = 255  # NAME_MAX: of one component of a path
PATH_BYTES = 4096  # PATH_MAX: of a name in an archive, and of a path that is put into one
SPARSE_REGIONS = 100_000  # data regions of one sparse file

# Compression
RATIO = 200  # bytes out for each byte in: real layers stay below 100
RATIO_GRACE = 64 << 20  # bytes that may come out of however little
DECODER_BYTES = 80 << 20  # dictionaries of all xz and zstd streams that are unpacked at a time
DECODER_SMALL = 10 << 20  # of one stream while another has a large one; `xz -6` needs 9 MiB

# Image archives and their documents
LOAD_FILES = 20_000  # files and links of a `docker load` archive
LOAD_NAME_BYTES = 512  # of the name of one of them
INDEX_DEPTH = 3  # indexes within indexes
IMAGE_LAYERS = 125  # overlayfs's and Docker's limit
DOCUMENT_BYTES = 4 << 20  # of a configuration, manifest or index

# Dockerfiles
DOCKERFILE_BYTES = 4 << 20  # of one file
DOCKERFILE_LINE_BYTES = (64 << 10) - 1  # of a line, as Docker
DOCKERFILE_INSTRUCTIONS = 10_000  # of one file, and of ONBUILD triggers of an image
DOCKERFILE_WORD_BYTES = 1 << 20  # that a word may have once its variables are replaced

# Build contexts, and what ADD and builds fetch
IGNORE_BYTES = 256 << 10  # of a .dockerignore
REMOTE_BYTES = 16 << 30  # of a URL of ADD, or a remote context
REMOTE_CONNECT_SECONDS = 30  # to connect to the server of it, each of its addresses
REMOTE_HEAD_SECONDS = 60  # for the head of its answer, redirects included
REMOTE_IDLE_SECONDS = 60  # that it may send nothing
REMOTE_SECONDS = 3600  # for all of it

# Builds
BUILDS = 16  # at a time; more wait
BUILD_STAGES = 3  # of one build at a time
BUILD_PACKED_FILES = 50_000  # of a context that is kept packed; a larger one is unpacked
BUILD_PACKED_BYTES = 8 << 20  # of their paths
BUILD_CACHES = 100  # images of --cache-from; more are none
BUILD_OUTPUT_BYTES = 1 << 20  # of a stage whose turn to be shown has not come, or of `build -q`

# What stays in memory, by the estimate of runtime/footprint.py
IMAGE_BYTES = 8 << 20  # of one image's configuration
IMAGES_BYTES = 24 << 20  # of the configurations of all images
CONTAINER_BYTES = 8 << 20  # of one container's document; 10,000 published ports take 6 MiB
CONTAINERS_BYTES = 32 << 20  # of all documents together: some 5,000 ordinary ones
EXEC_BYTES = 2 << 20  # of one exec's command and environment; ARG_MAX is about as much
EXECS_BYTES = 8 << 20  # of all execs that run or are remembered
VOLUME_BYTES = 1 << 20  # of one volume's options and labels
VOLUMES_BYTES = 16 << 20  # of those of all volumes: some 50,000 without any
NETWORKS_BYTES = 8 << 20  # of options and labels of all networks

ARGUMENT_BYTES = (128 << 10) - 1  # MAX_ARG_STRLEN of the kernel without the final zero: execve(2)

# JSON: documents of images, bodies and filters of requests
JSON_VALUES = 100_000  # commas and opening brackets: they bound the memory of what is decoded
JSON_NESTING = 64  # objects and lists within each other
BODY_BYTES = 1 << 20  # of a request's JSON body; archives are streamed
BODY_SECONDS = 60  # for a JSON body to arrive
BODY_SMALL = 4 << 10  # a JSON body that is read without a reservation
BODIES_BYTES = 2 << 20  # of all larger ones at a time; more wait

# HTTP
CONNECTIONS = 1024  # open at a time, a quarter of RLIMIT_NOFILE at most
CONNECTIONS_RESERVE = 64  # besides, for root on a Unix socket
HEADS_BYTES = 4 << 20  # of all large heads, incomplete or being answered, and what follows them
REPLIES_BYTES = 8 << 20  # that slow clients have not taken yet, of all replies
HEAD_SECONDS = 60  # from the first byte of a request's head to its last
REPLY_SECONDS = 60  # without a byte taken of a reply that is no stream
LINE_BYTES = 1 << 20  # of a request line, and of a head as it comes: as Go's servers allow
FIELD_BYTES = 64 << 10  # of a header; aiohttp takes 128 of them
UPLOAD_IDLE_SECONDS = 3600  # without a byte of an archive that is being sent

# Events: labels of containers are attributes of all that happens to them
EVENT_BYTES = 8 << 20  # of events that are remembered, and of those on their way to one client

# Registries, which may be hostile
REGISTRY_CONNECT_SECONDS = 15  # to resolve, connect and shake hands
REGISTRY_MIRROR_SECONDS = 5  # of a mirror, the first answer included
REGISTRY_ANSWER_SECONDS = 60  # from the end of a request to the end of the answer's head
REGISTRY_COMMIT_SECONDS = 300  # for that of a finished upload, which the registry verifies
REGISTRY_HEAD_BYTES = 256 << 10  # of an answer's status and headers
REGISTRY_DOCUMENT_SECONDS = 60  # for a manifest or another document to arrive
REGISTRY_TOKEN_BYTES = 256 << 10  # of a token server's answer
REGISTRY_STALL_SECONDS = 60  # for REGISTRY_STALL_BYTES to arrive or be taken
REGISTRY_STALL_BYTES = 64 << 10  # of a layer
REGISTRY_PROGRESS_BYTES = 1 << 20  # of a layer: an attempt that brought them does not count
REGISTRY_REDIRECTS = 5  # of one request
REGISTRY_PAGES = 1000  # of a list of tags
REGISTRY_PLACES = 16  # repositories of which it is remembered that they have a blob
LAYER_BYTES = 64 << 30  # compressed, of one layer

# Observers
WATCHERS = 32  # clients of GET /netkit/watch
WATCH_SECONDS = 30  # that such a client waits for a snapshot
METRICS_CONNECTIONS = 16  # open at a time; the one that is idle for longest is closed for another
METRICS_SECONDS = 8  # that a scrape waits for its collection; Prometheus gives up after 10
METRICS_ENDPOINTS = 1000  # with series of their own, eight each
METRICS_DEVICES = 1000  # of networks on the host, likewise
METRICS_SUBNETS = 1000  # likewise, two each
