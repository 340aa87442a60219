"""Every command by name: what it does and where it is.  Data: importing this imports no command."""

from __future__ import annotations

from netkit.cli.commands import Entry

RUN = Entry("Create and run a new container from an image", "run:run", common=True)
EXEC = Entry("Execute a command in a running container", "exec:exec_", common=True)
PS = Entry("List containers", "ps:ps", common=True)
IMAGES = Entry("List images", "images:images", common=True)
VERSION = Entry("Show the netkit version information", "system:version", common=True)
INFO = Entry("Display system-wide information", "system:info", common=True)

ATTACH = Entry(
    "Attach local standard input, output, and error streams to a running container",
    "attach:attach",
)
BUILD = Entry("Build an image from a Dockerfile", "build:build", common=True)
CREATE = Entry("Create a new container", "run:create")
CP = Entry("Copy files/folders between a container and the local filesystem", "cp:cp")
DIFF = Entry("Inspect changes to files or directories on a container's filesystem", "look:diff")
EVENTS = Entry("Get real time events from the server", "events:events")
EXPORT = Entry("Export a container's filesystem as a tar archive", "transfer:export")
HISTORY = Entry("Show the history of an image", "images:history")
IMPORT = Entry("Import the contents from a tarball to create a filesystem image",
               "transfer:import_")  # fmt: skip
INSPECT = Entry("Return low-level information on netkit objects", "inspect:inspect")
KILL = Entry("Kill one or more running containers", "life:kill")
LOAD = Entry("Load an image from a tar archive or STDIN", "transfer:load")
LOGS = Entry("Fetch the logs of a container", "look:logs")
PAUSE = Entry("Pause all processes within one or more containers", "life:pause")
PULL = Entry("Download an image from a registry", "registry:pull", common=True)
PUSH = Entry("Upload an image to a registry", "registry:push", common=True)
SEARCH = Entry("Search an index for images", "registry:search", common=True)
LOGIN = Entry("Authenticate to a registry", "registry:login", common=True)
LOGOUT = Entry("Log out from a registry", "registry:logout", common=True)
PORT = Entry("List port mappings or a specific mapping for the container", "look:port")
RENAME = Entry("Rename a container", "life:rename")
RESTART = Entry("Restart one or more containers", "life:restart")
RM = Entry("Remove one or more containers", "life:rm")
COMMIT = Entry("Create a new image from a container's changes", "images:commit")
RMI = Entry("Remove one or more images", "images:rmi")
SAVE = Entry("Save one or more images to a tar archive (streamed to STDOUT by default)",
             "transfer:save")  # fmt: skip
START = Entry("Start one or more stopped containers", "attach:start")
STATS = Entry("Display a live stream of container(s) resource usage statistics", "stats:stats")
STOP = Entry("Stop one or more running containers", "life:stop")
TAG = Entry("Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE", "images:tag")
TOP = Entry("Display the running processes of a container", "look:top")
UNPAUSE = Entry("Unpause all processes within one or more containers", "life:unpause")
UPDATE = Entry("Update configuration of one or more containers", "update:update")
WAIT = Entry("Block until one or more containers stop, then print their exit codes", "life:wait")
PRUNE = Entry("Remove unused data", "prune:system")


def _hidden(entry: Entry) -> Entry:
    return entry.replaced(hidden=True)


CONTAINER = {
    "attach": ATTACH, "commit": COMMIT, "cp": CP, "create": CREATE, "diff": DIFF, "exec": EXEC,
    "export": EXPORT, "inspect": Entry("Display detailed information on one or more containers",
                     "inspect:container"),
    "kill": KILL, "logs": LOGS, "ls": PS, "pause": PAUSE, "port": PORT,
    "prune": Entry("Remove all stopped containers", "prune:container"),
    "rename": RENAME, "restart": RESTART, "rm": RM, "run": RUN, "start": START, "stats": STATS,
    "stop": STOP, "top": TOP, "unpause": UNPAUSE, "update": UPDATE, "wait": WAIT,
    "list": _hidden(PS), "ps": _hidden(PS), "remove": _hidden(RM),
}  # fmt: skip
IMAGE = {
    "build": BUILD,
    "bootstrap": Entry("Make a base image without a registry: a distribution, or busybox",
                       "bootstrap:bootstrap"),
    "history": HISTORY, "import": IMPORT,
    "inspect": Entry("Display detailed information on one or more images", "inspect:image"),
    "load": LOAD, "ls": IMAGES,
    "prune": Entry("Remove unused images", "prune:image"),
    "pull": PULL, "push": PUSH, "rm": RMI, "save": SAVE, "tag": TAG,
    "list": _hidden(IMAGES), "remove": _hidden(RMI),
}  # fmt: skip
NETWORK = {
    "check": Entry("Show what other tools changed of interfaces, addresses and routes, as a diff",
                   "network:check"),
    "connect": Entry("Connect a container to a network", "network:connect"),
    "create": Entry("Create a network", "network:create"),
    "disconnect": Entry("Disconnect a container from a network", "network:disconnect"),
    "inspect": Entry("Display detailed information on one or more networks", "inspect:network"),
    "ls": Entry("List networks", "network:ls"),
    "plan": Entry("Show the steps by which networks would be as they should be, and do nothing",
                  "netplan:plan"),
    "prune": Entry("Remove all unused networks", "prune:network"),
    "rm": Entry("Remove one or more networks", "network:rm"),
    "trace": Entry("Follow a packet hop by hop, there and back, and show where it ends",
                   "trace:trace_"),
    "watch": Entry("Show networks and endpoints, and what changes of them from now on",
                   "watch:watch"),
}  # fmt: skip
FIREWALL = {
    "accept": Entry("Allow a source to reach a container, before all other rules", "fw:accept"),
    "check": Entry("Show what other tools changed of the firewall, as a diff", "fw:check"),
    "drop": Entry("Block a source from a container", "fw:drop"),
    "explain": Entry("Show which rule decides whether a packet arrives", "fw:explain"),
    "ls": Entry("List access rules", "fw:ls"),
    "repair": Entry("Repair the firewall", "fw:repair"),
    "rm": Entry("Remove one or more access rules", "fw:rm"),
    "show": Entry("Describe which sources may reach a container", "fw:show"),
}
NETWORK |= {"list": _hidden(NETWORK["ls"]), "remove": _hidden(NETWORK["rm"])}
CLUSTER = {
    "init": Entry("Create a cluster with this host as its first server", "cluster:init"),
    "join": Entry("Join a cluster as one more server", "cluster:join"),
    "leave": Entry(
        "Leave the cluster, or remove another host that does not come back", "cluster:leave"
    ),
    "status": Entry("Show servers, hosts and problems", "cluster:status"),
}
OVN = {
    "up": Entry("Run servers of OVN on this host, of a new OVN or of one to join", "ovn:up"),
    "down": Entry("Remove the servers of OVN from this host, or of one that is lost", "ovn:down"),
    "status": Entry("Show the servers of OVN: who leads, and who lags behind", "ovn:status"),
}
WEAVE = {
    "launch": Entry("Launch the overlay on this host, and connect to peers", "weave:launch"),
    "connect": Entry("Connect to more peers", "weave:connect"),
    "forget": Entry("Stop connecting to peers", "weave:forget"),
    "run": Entry("Run a container on the overlay, in the background, and print its ID",
                 "weaverun:run"),
    "attach": Entry("Give a running container addresses on the overlay", "weavehosts:attach"),
    "detach": Entry("Take a container, or addresses of it, off the overlay",
                    "weavehosts:detach"),
    "expose": Entry("Give this host addresses on the overlay", "weavehosts:expose"),
    "hide": Entry("Take this host, or addresses of it, off the overlay", "weavehosts:hide"),
    "dns-add": Entry("Add names of a container, or of addresses", "weavenames:dns_add"),
    "dns-remove": Entry("Remove names that were added", "weavenames:dns_remove"),
    "dns-lookup": Entry("Show the addresses of a name, or the names of an address",
                        "weavenames:dns_lookup"),
    "status": Entry("Show the state of the overlay, its connections, peers, targets, names or"
                    " addresses", "weavestatus:status"),
    "report": Entry("Show the whole state of the overlay as JSON", "weavestatus:report"),
    "ps": Entry("List containers on the overlay with their MAC and IP addresses",
                "weavestatus:ps"),
    "rmpeer": Entry("Remove a peer that does not come back, and take over its addresses",
                    "weave:rmpeer"),
    "prime": Entry("Found the range of addresses here, or wait for its founder", "weave:prime"),
    "reset": Entry("Leave the overlay: stop, give addresses back, and forget everything",
                   "weave:reset"),
    "stop": Entry("Stop the overlay on this host; its networks go on there", "weave:stop"),
    "version": Entry("Show the versions of the command and of the overlay", "weavestatus:version"),
    "help": Entry("Show the help of a command", "help:help_of_group"),
}  # fmt: skip
LAB = {
    "apply": Entry("Change a lab that is up as its lab.yml has changed, and nothing else",
                   "netkit.lab.command:apply"),
    "up": Entry("Bring a lab up", "netkit.lab.command:up"),
    "down": Entry("Take a lab down, whatever state it is in", "netkit.lab.command:down"),
    "status": Entry("Show hosts and containers with their addresses", "netkit.lab.command:status"),
    "check": Entry("Run the checks of a lab; exit 0 if all hold", "netkit.lab.command:check"),
    "restart": Entry("Restart the daemon of a host", "netkit.lab.command:restart"),
    "sh": Entry("Open a shell on a host or in a container", "netkit.lab.command:sh"),
    "exec": Entry("Run a command on a host or in a container", "netkit.lab.command:exec_"),
    "graph": Entry("Draw the topology", "netkit.lab.drawing:graph"),
    "import": Entry("Make a lab of a containerlab topology, a Kathara folder or a compose file",
                    "netkit.lab.importing:import_"),
    "ui": Entry("Show all hosts of a lab as a map in the browser", "netkit.lab.command:ui"),
    "impair": Entry("Delay, lose, limit ... packets of a link, or show what happens to them",
                    "netkit.lab.impaircommand:impair"),
    "ls": Entry("List labs that are up", "netkit.lab.command:ls"),
}
MANIFEST = {
    "inspect": Entry("Display an image manifest, or an index, of a registry",
                     "registry:manifest_inspect"),
}  # fmt: skip
BUILDER = {
    "build": BUILD,
    "prune": Entry("Remove build cache", "prune:builder"),
}
SYSTEM = {
    "df": Entry("Show disk usage", "df:df"), "events": EVENTS, "info": INFO, "prune": PRUNE,
}  # fmt: skip

VOLUME = {
    "create": Entry("Create a volume", "volume:create"),
    "inspect": Entry("Display detailed information on one or more volumes", "inspect:volume"),
    "ls": Entry("List volumes", "volume:ls"),
    "prune": Entry("Remove unused local volumes", "prune:volume"),
    "rm": Entry("Remove one or more volumes", "volume:rm"),
}
VOLUME |= {"list": _hidden(VOLUME["ls"]), "remove": _hidden(VOLUME["rm"])}

ROOT = {
    "run": RUN, "exec": EXEC, "ps": PS, "pull": PULL, "push": PUSH,
    "build": BUILD,
    "images": IMAGES, "login": LOGIN,
    "logout": LOGOUT, "search": SEARCH, "version": VERSION, "info": INFO,
    "container": Entry("Manage containers", inside=CONTAINER),
    "builder": Entry("Manage builds", inside=BUILDER),
    "cluster": Entry("Manage the cluster of hosts that share networks", inside=CLUSTER),
    "ovn": Entry("Manage servers of OVN, for networks of driver ovn", inside=OVN),
    "image": Entry("Manage images", inside=IMAGE),
    "manifest": Entry("Look at manifests in registries", inside=MANIFEST),
    "capture": Entry("Record packets at containers, hosts and links, as lines or a pcapng file",
                     "netkit.capture.command:capture"),
    "lab": Entry("Manage labs: hosts, networks and checks on one machine", inside=LAB),
    "net": Entry("Manage networks", inside=NETWORK),
    "network": Entry("Manage networks", inside=NETWORK),
    "fw": Entry("Manage access rules on containers, and the firewall", inside=FIREWALL),
    "system": Entry("Manage the engine", inside=SYSTEM),
    "volume": Entry("Manage volumes", inside=VOLUME),
    "weave": Entry("Manage the weave overlay of containers of several hosts", inside=WEAVE),
    "attach": ATTACH, "commit": COMMIT, "cp": CP, "create": CREATE, "diff": DIFF, "events": EVENTS,
    "export": EXPORT, "history": HISTORY, "import": IMPORT, "inspect": INSPECT, "kill": KILL,
    "load": LOAD, "logs": LOGS, "pause": PAUSE, "port": PORT, "prune": PRUNE, "rename": RENAME,
    "restart": RESTART, "rm": RM, "rmi": RMI, "save": SAVE, "start": START, "stats": STATS,
    "stop": STOP, "tag": TAG, "top": TOP, "unpause": UNPAUSE, "update": UPDATE, "wait": WAIT,
    "ui": Entry("Show networks and containers as a map in the browser", "netkit.ui.command:ui"),
    "help": Entry("Show the help of a command", "help:help_"),
    "completion": Entry("Print the completion script for a shell", "completion:completion"),
}  # fmt: skip
