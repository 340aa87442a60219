# Everything is a script; this file only gives the scripts their usual names.
.PHONY: setup demo test bench bench-cli bench-cni bench-docker-plugin bench-drivers bench-first-packet bench-images bench-netlink bench-ovn bench-ovn-scale bench-ovs bench-planes bench-relay bench-scale bench-watch bench-weave torture torture-docker torture-store flame flood simulate simulate-large

setup:
	script/setup

demo:
	script/demo

test:
	script/test

bench: # make bench BENCH=--quick
	script/setup --dev
	NETKIT_TEST_DOCKERD="$${NETKIT_TEST_DOCKERD:-$$(command -v dockerd >/dev/null || script/reference)}" \
		.venv/bin/python -m bench $(BENCH)

bench-cli: # make bench-cli BENCH='--only "ps|version"': the command line beside docker's
	script/setup --dev
	.venv/bin/python -m bench.cli $(BENCH)

bench-cni: # make bench-cni BENCH='--repeats 5': netkit-cni beside the reference plugins of CNI
	script/setup --dev
	script/podman
	.venv/bin/python -m bench.cni $(BENCH)

bench-drivers: # make bench-drivers BENCH=--quick; needs iperf3, and for the comparison mininet and bridge-utils
	script/setup --dev
	.venv/bin/python -m bench.drivers $(BENCH)

bench-docker-plugin: # make bench-docker-plugin BENCH='--rounds 30': netkit as dockerd's plugin, and dockerd's own driver
	script/setup --dev
	NETKIT_TEST_DOCKERD="$${NETKIT_TEST_DOCKERD:-$$(command -v dockerd >/dev/null || script/reference)}" \
	.venv/bin/python -m bench.docker_plugin $(BENCH)

bench-ovs: # make bench-ovs BENCH='--part local': Open vSwitch's userspace datapath; needs iperf3, ethtool
	script/setup --dev
	script/openvswitch >/dev/null && script/openvswitch sid >/dev/null
	.venv/bin/python -m bench.openvswitch $(BENCH)

bench-ovn: # make bench-ovn BENCH=--quick: driver ovn beside driver ovs; needs iperf3, ovn-host, ovn-central
	script/setup --dev
	.venv/bin/python -m bench.ovn $(BENCH)

bench-ovn-scale: # make bench-ovn-scale BENCH='--part simulated --simulated 200': OVN with many chassis
	script/setup --dev
	.venv/bin/python -m bench.ovn_scale $(BENCH)

bench-relay: # make bench-relay BENCH='--rounds 9': an impaired link beside the same one without its relay
	script/setup --dev
	.venv/bin/python -m bench.relay $(BENCH)

bench-planes: # make bench-planes BENCH="--quick --frames asked": bridge and lan beside bridges by hand, in paired rounds
	script/setup --dev
	.venv/bin/python -m bench.planes $(BENCH)

bench-first-packet: # make bench-first-packet BENCH='--rounds 5': until the first ping of a container that was started
	script/setup --dev
	.venv/bin/python -m bench.first_packet $(BENCH)

flame: # make flame ROW='network connect$$' FILE=flame.svg: where netkitd's time goes while a row of the benchmarks runs
	script/setup --dev
	.venv/bin/python -m bench.flame '$(ROW)' $(or $(FILE),flame.svg)

bench-netlink: # make bench-netlink BENCH='--pairs 200': netlink batches beside pyroute2
	script/setup --dev
	.venv/bin/python -m bench.netlink $(BENCH)

bench-scale: # make bench-scale BENCH='--containers 2000 --running 500': many containers beside few
	script/setup --dev
	.venv/bin/python -m bench.scale $(BENCH)

bench-watch: # make bench-watch BENCH='--drivers docker0,ovs': time until what another tool changes is repaired
	script/setup --dev
	.venv/bin/python -m bench.watch $(BENCH)

bench-weave: # make bench-weave BENCH='--quick --underlays "MTU 1500"'; needs iperf3, ethtool
	script/setup --dev
	.venv/bin/python -m bench.weave $(BENCH)

bench-images: # make bench-images BENCH='--quick --peers netkit,dockerd': pull, push, builds, commit, save and load
	script/setup --dev
	NETKIT_TEST_DOCKERD="$${NETKIT_TEST_DOCKERD:-$$(command -v dockerd >/dev/null || script/reference)}" \
		.venv/bin/python -m bench.images $(BENCH)

torture: # make torture TORTURE='--kills 2000 --seed 7', or with --lab over the hosts of a cluster, --lab ovn of an OVN
	script/setup --dev
	.venv/bin/python -m tests.torture $(TORTURE)

torture-docker: # make torture-docker TORTURE='--kills 300 --seed 7 --live-restore': netkit as dockerd's plugin
	script/setup --dev
	NETKIT_TEST_DOCKERD="$${NETKIT_TEST_DOCKERD:-$$(command -v dockerd >/dev/null || script/reference)}" \
	.venv/bin/python -m tests.torture.plugin $(TORTURE)

torture-store: # make torture-store TORTURE='--kills 200 --cuts 200 --full 200 --seed 7'; needs xfsprogs
	script/setup --dev
	.venv/bin/python -m tests.torture.store $(TORTURE)

flood: # make flood FLOOD='--only attach --seconds 20'; as root: memory under hostile connections
	script/setup --dev
	.venv/bin/python -m tests.flood $(FLOOD)

simulate: # make simulate SEEDS=1000-9999: the weave core on a network, clocks and disks that fail
	script/setup --dev
	.venv/bin/python -m tests.simulation --seeds $(or $(SEEDS),0-999)

simulate-large: # make simulate-large PEERS=2000: what that many peers cost, and how fast news is; some 6 GB
	script/setup --dev
	.venv/bin/python -m tests.simulation.large --peers $(or $(PEERS),500)
