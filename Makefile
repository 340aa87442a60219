# Everything is a script; this file only gives the scripts their usual names.
.PHONY: setup demo test bench bench-drivers torture

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

bench-drivers: # make bench-drivers BENCH=--quick; needs iperf3, and for the comparison mininet and bridge-utils
	script/setup --dev
	.venv/bin/python -m bench.drivers $(BENCH)

torture: # make torture TORTURE='--kills 2000 --seed 7', or with --lab over the hosts of a cluster
	script/setup --dev
	.venv/bin/python -m tests.torture $(TORTURE)
