"""Command lines that `netkit` and the stock docker CLI must turn into the same requests.

Plain shell words; run in a folder with the files of FILES and the environment ENVIRONMENT.
"""

from __future__ import annotations

FILES = {
    "env.list": "# a comment\nA=1\n  B=two words\nFROM_OUTSIDE\nNOT_SET\n\nC=\n",
    "labels": "one=1\ntwo\n",
    "seccomp.json": '{\n  "defaultAction": "SCMP_ACT_ALLOW"\n}\n',
    "data.tar": "not really a tar",
}
ENVIRONMENT = {"FROM_OUTSIDE": "outer value", "TZ": "UTC", "LANG": "C.UTF-8"}

CREATE = """
create busybox
create busybox sh -c 'echo $HOME; exit 3'
create -it busybox
create -i -t --name box busybox sh -i -t
create -ti busybox -- ls
create -- busybox -x
create -a stdout -a STDERR busybox
create --attach stdin busybox
create -e A=1 -e B= -e FROM_OUTSIDE -e NOT_SET --env C=a=b busybox
create -e=A=1 -w=/x busybox
create --env-file env.list -e A=2 busybox
create -l a=b -l c --label-file labels --label one=2 busybox
create -w /work -u 1000:1000 -h host --domainname example.org busybox
create --entrypoint /bin/sh busybox -c true
create --entrypoint= busybox
create --entrypoint '' busybox ls
create -v /host:/ctr -v /host2:/ctr2:ro -v ./rel:/rel -v named:/vol -v /anonymous busybox
create -v /a:/b:ro,z --volume-driver local --volumes-from other:ro busybox
create -v named:/vol -v named:/vol busybox
create --tmpfs /run --tmpfs /tmp:size=64m,mode=1777 busybox
create --mount type=bind,src=/a,dst=/b,readonly busybox
create --mount type=bind,source=./a,target=/b,bind-propagation=rslave,readonly=false busybox
create --mount type=bind,src=/a,dst=/b,ro,bind-recursive=writable busybox
create --mount type=bind,src=/a,dst=/b,bind-recursive=disabled busybox
create --mount type=bind,src=/a,dst=/b,ro,bind-propagation=rprivate,bind-recursive=readonly busybox
create --mount type=tmpfs,dst=/t,tmpfs-size=64m,tmpfs-mode=1770 busybox
create --mount type=volume,src=v,dst=/v,volume-nocopy,volume-label=a=b,volume-opt=o=x busybox
create --mount 'type=volume,src=v,dst=/v,volume-driver=d,"volume-opt=o=x,y"' busybox
create --mount dst=/v,consistency=cached busybox
create --read-only --shm-size 64m --storage-opt size=1g busybox
create --cap-add NET_ADMIN --cap-add=ALL --cap-drop chown busybox
create --privileged --security-opt no-new-privileges --security-opt label=disable busybox
create --security-opt seccomp=unconfined --security-opt apparmor:unconfined busybox
create --security-opt seccomp=seccomp.json busybox
create --security-opt systempaths=unconfined busybox
create -m 64m --memory-swap -1 --memory-reservation 32MB --memory-swappiness 10 busybox
create -m 1.5g --memory-swap=3GiB busybox
create -m 104857600 --oom-kill-disable --oom-score-adj 500 busybox
create --cpus 1.5 --cpuset-cpus 0-1 --cpuset-mems 0 -c 512 busybox
create --cpus 1/2 busybox
create --cpu-period 100000 --cpu-quota 50000 --cpu-rt-period 1000 --cpu-rt-runtime 500 busybox
create --pids-limit 100 busybox
create --pids-limit=-1 busybox
create --blkio-weight 300 --blkio-weight-device /dev/sda:200 busybox
create --device-read-bps /dev/sda:1mb --device-write-bps /dev/sda:2m busybox
create --device-read-iops /dev/sda:100 --device-write-iops /dev/sdb:200 busybox
create --ulimit nofile=1024:2048 --ulimit core=0 --ulimit memlock=-1 busybox
create --sysctl net.ipv4.ip_forward=1 --sysctl kernel.msgmax=65536 busybox
create --device /dev/fuse --device /dev/sda:/dev/xvda --device /dev/kvm:rw busybox
create --device /dev/sda:/dev/xvda:r --device-cgroup-rule 'c 10:200 rwm' busybox
create --init busybox
create --init=false busybox
create --restart always busybox
create --restart on-failure:3 --stop-signal SIGINT --stop-timeout 3 busybox
create --restart unless-stopped --stop-timeout=0 busybox
create --rm --restart no busybox
create --health-cmd 'curl -f x' --health-interval 5s --health-timeout 1m30s busybox
create --health-retries 3 --health-start-period 500ms --health-start-interval 1.5s busybox
create --no-healthcheck busybox
create --log-driver json-file --log-opt max-size=10m --log-opt max-file=3 busybox
create --log-opt mode=non-blocking --log-opt tag busybox
create --pid host --ipc host --uts host --userns host --cgroupns host busybox
create --pid container:other --ipc container:other --cgroupns=private busybox
create --cgroup-parent /x --runtime runc --annotation a=b --group-add audio --group-add 44 busybox
create -p 80 busybox
create -p 8080:80 -p 8443:443/tcp -p 53:53/UDP busybox
create -p 127.0.0.1:8080:80 -p 127.0.0.1::81 -p 0.0.0.0:82:82 busybox
create -p [::1]:8080:80 -p [::]:8081:81 busybox
create -p 8000-8010:80 busybox
create -p 8000-8002:9000-9002/udp busybox
create -p 7000-7003 busybox
create -p 80:80 -p 81:80 -p 80/udp busybox
create -p published=8080,target=80 -p target=81,protocol=udp busybox
create -P --expose 80 --expose 7000-7002/udp busybox
create --dns 1.1.1.1 --dns 2001:db8::1 --dns-search example.org --dns-search . busybox
create --dns-option ndots:2 --dns-opt rotate busybox
create --add-host a:1.2.3.4 --add-host b=2001:db8::1 --add-host c=[::1] busybox
create --add-host gw:host-gateway --add-host d:2001:db8::2 busybox
create --network host busybox
create --net none busybox
create --network container:other busybox
create --network net1 busybox
create --network net1 --ip 10.1.0.5 --ip6 2001:db8::5 --network-alias a --net-alias b busybox
create --network net1 --link-local-ip 169.254.1.2 --mac-address 02:42:ac:11:00:02 busybox
create --network net1 --link other:o --link third busybox
create --network bridge --link other:o busybox
create --mac-address 02-42-AC-11-00-02 busybox
create --network name=net1,alias=a,alias=b,ip=10.1.0.9,gw-priority=10 busybox
create --network name=Net1,driver-opt=com.docker.network.endpoint.ifname=eth7 busybox
create --network name=net1,mac-address=02:42:ac:11:00:03,ip6=2001:db8::9 busybox
create --network name=net1,link-local-ip=169.254.1.3 --network net2 busybox
create --network net1 --network name=net2,gw-priority=-5 --network-alias z busybox
create --platform linux/amd64 busybox
create --pull never -q busybox
create --pull always busybox
create registry.example:5000/team/app:1.2
create busybox@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
run -d busybox
run -d --rm --name box -p 8080:80 busybox httpd -f
run -dit busybox
run -d=true -i=false busybox
run --rm busybox true
run -i busybox cat
run --sig-proxy=false -a stdout -a stderr busybox
run --detach-keys ctrl-x,x busybox
"""

BAD = """
volume prune -af --filter all=1
volume rm
volume create one two
system prune -f --volumes --filter until=1h
create
run
create --foo busybox
create -Z busybox
create -m
create --name
create -m 5x busybox
create -m x busybox
create -m -5m busybox
create --rm=maybe busybox
create --cpus x busybox
create --cpus 1.2345678901 busybox
create --pids-limit x busybox
create --blkio-weight 70000 busybox
create --health-interval x busybox
create --health-interval 5 busybox
create --health-interval 5d busybox
create --health-interval -5s busybox
create --no-healthcheck --health-retries 3 busybox
create --ulimit x busybox
create --ulimit nosuch=1 busybox
create --ulimit nofile=5:3 busybox
create --ulimit nofile=1:2:3 busybox
create --sysctl kernel.shmall busybox
create --sysctl vm.swappiness=1 busybox
create -a foo busybox
create -l =x busybox
create -e =x busybox
create --env-file nope busybox
create --label-file nope busybox
create -p 99999:80 busybox
create -p 80:x busybox
create -p 8000-8001:9000-9005 busybox
create -p 300.1.1.1:80:80 busybox
create -p 80:80/icmp busybox
create -p published=80,targ busybox
create --expose 80/foo busybox
create --network name=a,foo=b busybox
create --network alias=a busybox
create --network name=a,ip=x busybox
create --network a --network a busybox
create --network a --network host busybox
create --network host --network-alias a busybox
create --network name=a,ip=10.1.1.1 --ip 10.1.1.2 busybox
create --network name=a,alias=x --network-alias y busybox
create --ip x busybox
create --mac-address nonsense busybox
create --add-host a busybox
create --add-host a:x busybox
create --dns x busybox
create --link a:b:c busybox
create --mount x busybox
create --mount type=bind,dst busybox
create --mount type=bind,src=/a,dst=/b,foo=bar busybox
create --mount type=bind,src=/a,dst=/b,readonly=maybe busybox
create --mount type=bind,src=/a,dst=/b,volume-nocopy busybox
create --mount type=tmpfs,dst=/t,tmpfs-size=x busybox
create --mount type=bind,src=/a,dst=/b,bind-recursive=writable busybox
create --device a:b:c:d busybox
create --device /dev/a:/b:xyz busybox
create --device-cgroup-rule x busybox
create --device-read-bps x busybox
create --device-write-iops /dev/a:x busybox
create --blkio-weight-device /dev/a:5000 busybox
create --pid foo busybox
create --uts foo busybox
create --userns foo busybox
create --cgroupns foo busybox
create --memory-swappiness 200 busybox
create --restart on-failure:x busybox
create --restart :3 busybox
create --rm --restart always busybox
create --security-opt foo busybox
create --security-opt seccomp=nope busybox
create --log-driver none --log-opt a=b busybox
create --storage-opt size busybox
create --pull foo busybox
run -d -a stdout busybox
run --detach-keys nonsense busybox
run -it busybox
exec -it web sh
exec web
ps extra
stop
stop -t x web
rename web
tag a
rm
inspect
nosuchcommand
container nosuchcommand
--nosuchflag ps
ps --format
ps -f foo
ps --format '{{.Nope}}'
ps --format '{{'
inspect -f '{{' web
inspect --type nonsense web
tag '' x
tag busybox ''
network create --subnet 10.0.0.0/24 --subnet 10.0.0.0/16 net1
network create --gateway 10.0.0.1 net1
network create --subnet 10.0.0.0/24 --gateway 10.1.0.1 net1
network create --subnet nonsense net1
update web
port web 81
port web x
attach stopped
start -a web db
cp a b
cp web:/a db:/b
load -i nope
import nope
"""

CALLS = """
ps
ps -a
ps -q
ps -aq --no-trunc
ps --no-trunc
ps -l
ps -n 2
ps -s
ps -f name=web -f label=a=b --filter status=running --filter status=exited
ps --format '{{.ID}} {{.Names}}'
ps --format 'table {{.Names}}\\t{{.Status}}'
ps --format 'table {{.Names}}\\t{{.Label "tier"}}\\t{{upper .State}}'
ps --format '{{.Names}}: {{.Labels}} {{.Mounts}} {{.Networks}} {{.LocalVolumes}}'
ps --format '{{.Names}} {{.Size}}'
ps --format '{{if eq .State "running"}}{{.Names}}{{else}}-{{end}}'
ps --format '{{json .Names}} {{truncate .ID 4}} {{pad .State 1 2}}|'
ps --format '{{join (split .Image ":") "|"}} {{len .Names}} {{printf "%-8s|%q" .State .ID}}'
container ls
container ps -a
images
images -q
images --no-trunc
images --digests
images -a busybox
images -f dangling=true
images --format '{{.Repository}}:{{.Tag}} {{.ID}} {{.CreatedSince}} {{.Size}}'
images --format 'table {{.Repository}}\\t{{.Size}}'
image ls
history busybox
history --no-trunc busybox
history -q busybox
network ls
network ls -q
network ls --no-trunc
network ls -f driver=bridge --filter type=custom
network ls --format '{{.Name}} {{.IPv4}} {{.IPv6}} {{.Internal}} {{.Labels}} {{.CreatedAt}}'
network ls --format 'table {{.Name}}\\t{{.Driver}}'
network inspect -f '{{.Name}} {{range .IPAM.Config}}{{.Subnet}}{{end}}' net1 net2
network inspect net1 nosuch
network create net1
network create -d bridge --subnet 10.1.0.0/16 --gateway 10.1.0.1 --ip-range 10.1.2.0/24 net1
network create --subnet 10.1.0.0/16 --aux-address a=10.1.0.5 --aux-address b=10.1.0.6 net1
network create --subnet 10.1.0.0/16 --subnet 2001:db8::/64 --gateway 2001:db8::1 --ipv6 net1
network create --subnet 10.1.0.0/16,10.2.0.0/16 --gateway 10.2.0.1 net1
network create --internal --attachable --label a=b -o com.docker.network.driver.mtu=1400 net1
network create --ipv4=false --ipv6 --opt flag net1
network create --config-only --subnet 10.1.0.0/16 --scope local net1
network create --config-from other --ipam-driver null --ipam-opt k=v net1
network connect net1 web
network connect --ip 10.1.0.7 --alias a --alias b,c --gw-priority 5 net1 web
network connect --ip6 2001:db8::7 --link db:d --link-local-ip 169.254.3.4 net1 web
network connect --driver-opt a=b --driver-opt c=d net1 web
network disconnect net1 web
network disconnect -f net1 web
network rm net1 net2
network rm net1 nosuch
network rm -f nosuch
volume ls
volume ls -q
volume ls -f dangling=true --filter label=a
volume ls --format '{{.Name}} {{.Driver}} {{.Scope}} {{.Mountpoint}} {{.Labels}} {{.Size}}'
volume ls --format 'table {{.Name}}\\t{{.Label "tier"}}'
volume list
volume inspect data logs
volume inspect -f '{{.Mountpoint}} {{.Labels}}' data2 nosuch
volume create
volume create data
volume create -d local --label a=b --label c -o type=tmpfs -o device=tmpfs --opt o=size=1m data
volume rm data logs
volume rm -f data
volume rm data nosuch
volume remove data
volume prune -f
volume prune -af
volume prune -f --filter label=a --filter label!=b
inspect --type volume data
inspect --type volume data nosuch
inspect --type image nosuch
inspect -f '{{.ID}} {{.Image}} {{.Config.Labels}}' web
images --format '{{.Repository}} {{.Size}} {{.VirtualSize}}'
network prune -f
network prune -f --filter label=a
container prune -f --filter until=1700000000
image prune -f
image prune -af
system prune -f
system prune -f --all --volumes
system df
system df --format '{{.Type}} {{.Size}}'
inspect -f '{{.State.Status}} {{.HostConfig.Memory}} {{json .Config.Env}}' web
inspect -f '{{index .Config.Labels "x.y"}} {{len .Config.Env}} {{join .Config.Env ","}}' web
inspect -f '{{range $k, $v := .NetworkSettings.Networks}}{{$k}}={{$v.IPAddress}} {{end}}' web
inspect -f '{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}' web
inspect -f '{{if and .State.Running (eq .Config.Hostname "h")}}yes{{else}}no{{end}}' web
inspect -f '{{with .Config.Labels}}{{index . "x.y"}}{{end}} {{.Config.Labels.nope}}' web
inspect -f '{{range .Config.Env}}{{println .}}{{end}}' web
inspect --type container -s -f '{{.Id}}' web
inspect nosuch
inspect --format '{{.Id}}' web nosuch
image inspect --format '{{.Id}}' busybox
container inspect -f '{{.Name}}' web
stop web
stop -t 5 web
stop -s SIGINT --timeout 0 web
stop --time 3 web
stop web nosuch db
restart -t 1 web
kill web
kill -s HUP web
kill --signal 9 web
pause web
unpause web
wait web
rename web other
rm web
rm -fv web db
rm -l web/alias
rm nosuch
rm -f nosuch
update -m 64m --memory-swap 128m --cpus .5 --pids-limit 50 web
update --restart on-failure:2 --cpu-shares 100 --cpuset-cpus 0 web db
update --cpu-period 1000 --cpu-quota 500 --blkio-weight 20 --memory-reservation 1m web
start web
start web db
start nosuch web
logs web
logs -f --tail 5 -t web
logs -n 3 --details web
logs --since 1700000000 --until 1700000100.5 web
logs --since 2024-01-02T03:04:05Z web
logs nosuch
top web
top web -eo pid,cmd
port web
port web 80
port web 53/udp
diff web
exec web ls -l
exec -e A=1 -w /tmp -u 1 --privileged web env
exec -d web sleep 5
exec -i web cat
exec --env-file env.list web true
events --until 0 --since 0
events --until 1700000000 --format '{{.Type}} {{.Action}} {{.Actor.ID}}'
events --until 0 --filter type=container --filter event=start
events --until 0 --format json
exec --detach-keys ctrl-x web true
history --format '{{.ID}} {{.Size}}' busybox
import --platform linux/amd64 data.tar
load --platform linux/amd64 -i data.tar
network create --ingress net1
network inspect --verbose net1
restart --signal HUP web
rmi --platform linux/amd64 busybox
save --platform linux/amd64 busybox
start -a -i --detach-keys ctrl-x web
system df -v
system events --since 1700000000 --until 1700000001 --filter type=network --format json
system prune -f --filter label=a
update --cpu-rt-period 1000 --cpu-rt-runtime 500 --cpuset-mems 0 web
export -o x.tar web
save -o x.tar busybox
stats --no-stream web
stats --no-stream --no-trunc --format '{{.Name}} {{.CPUPerc}} {{.MemUsage}}' web
tag busybox other:1
tag busybox registry.example:5000/x
commit web
commit -a me -m 'a message' -c 'CMD a' -c 'ENV b=c' web mine
commit -p=false web localhost:5000/mine:1
rmi busybox
rmi -f --no-prune busybox other
rmi nosuch
save busybox other:1
export web
import -c 'CMD ["sh"]' -m message data.tar new:1
import data.tar
import http://example.org/x.tar new:1
load -i data.tar
load -q -i data.tar
"""


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


ALL = lines(CREATE) + lines(BAD) + lines(CALLS)

# netkit's own, by what the host is in: there is no docker to compare with.
CLUSTER = {
    "nowhere": """
cluster init
cluster init --address 10.0.0.1
cluster join 10.0.0.1
cluster join --address 10.0.0.2 10.0.0.1
cluster join 10.0.0.99
cluster status
cluster status --format '{{.Name}}'
cluster leave
cluster leave -f
cluster init 10.0.0.1
cluster join
cluster join 10.0.0.1 10.0.0.2
cluster leave h1 h2
cluster leave --force h2
cluster init --addres 10.0.0.1
cluster init --address
cluster nonsense
cluster --help
cluster init --help
cluster join --help
cluster leave --help
cluster status --help
""",
    "server": """
cluster status
cluster status --format '{{.Name}} {{.Address}} {{.Server}} {{.Endpoints}}'
cluster status --format json
cluster status --format 'table {{.ID}}'
cluster status --format '{{.Nope}}'
cluster init
cluster join 10.0.0.1
cluster leave
cluster leave h3
cluster leave nosuch
""",
    "client": "cluster status\ncluster leave",
    "without most servers": "cluster status\ncluster leave\ncluster leave --force\nnet prune -f",
}

OVN = {
    "nowhere": """
ovn up
ovn up --address 10.0.0.1 --insecure
ovn up --address 10.0.0.2 --join 10.0.0.1
ovn up --join 10.0.0.99
ovn up 10.0.0.1
ovn status
ovn status --format '{{.Role}}'
ovn down
ovn down -f
ovn down --force 10.0.0.3
ovn down 10.0.0.2 10.0.0.3
ovn nonsense
ovn --help
ovn up --help
ovn down --help
ovn status --help
""",
    "server": """
ovn status
ovn status --format '{{.Database}} {{.Address}} {{.Role}} {{.Index}} {{.Lag}} {{.Clients}}'
ovn status --format json
ovn down 10.0.0.3
""",
    "without most servers": "ovn status\novn down",
}

WEAVE = {
    "nowhere": """
weave launch
weave launch 192.168.59.103
weave launch --password secret --ipalloc-range 10.2.0.0/16 h1 h2:7000
weave launch --ipalloc-range 10.2.0.0/16 --ipalloc-default-subnet 10.2.3.0/24 h1
weave launch --trusted-subnets 10.0.0.0/8,192.168.0.0/16 --no-discovery --nickname me --mtu 1400
weave launch --no-fastdp --host 10.0.0.1 --port 7000 --resume --dns-domain weave.local.
weave launch --advertise-address 198.51.100.7,198.51.100.8
weave launch -password secret
weave launch --iprange 10.2.0.0/16 --ipsubnet 10.2.3.0/24 --nodiscovery=true
weave launch --password-file nosuch
weave launch --password a --password-file b
weave launch --plugin=false --proxy=false --conn-limit 9 --no-restart --log-level debug --no-dns
weave launch --dns-domain example.org
weave launch --name 00:01:02:03:04:05
weave launch --token abc
weave launch -H unix:///x
weave launch --status-addr 0.0.0.0:6782
weave launch --mtu 99999
weave launch --port x
weave launch unreachable.example
weave status
weave status connections
weave run 192.168.1.2/24 busybox
weave ps
weave report
weave stop
weave version
weave connect h1
weave env
weave launch-router
weave nonsense
weave
weave --help
weave help launch
weave help nonsense
""",
    "launched": """
weave launch
weave status
weave status connections
weave status peers
weave status targets
weave status dns
weave status ipam
weave status nonsense
weave report -f '{{.DNS.Domain}} {{json .IPAM}}'
weave report -f '{{range .Router.Connections}}{{.Address}} {{.State}} {{.Info}};{{end}}'
weave report -f '{{.overlay.name}} {{.Warnings}}'
weave report -f '{{.Nope}}'
weave report -f '{{nope'
weave ps
weave ps web
weave ps 0123456789ab weave:expose
weave ps nosuch
weave version
weave connect h3
weave connect --replace h1
weave connect --replace
weave connect
weave forget h3 10.0.0.4:6783
weave forget
weave run 192.168.1.2/24 -it busybox /bin/sh
weave run busybox sleep 1000
weave run net:10.2.0.0/16 ip:10.5.5.5/24 net:default --name c1 -d --rm -p 80:80 busybox sh -it
weave run --without-dns 10.2.1.1/24 --with-dns 10.2.1.2/24 -t busybox
weave run 10.2.1.1/24 --net=none busybox
weave run 10.2.1.1/24 --network back --network-alias db busybox
weave run 10.2.1.1/24 --network-alias db -h web.weave.local busybox
weave run 10.2.1.1/24 --hostname web --domainname weave.local busybox
weave run 10.2.1.1/24 --network weave --ip 10.32.0.7 busybox
weave run 10.2.1.1/24 --network name=back,alias=x --network weave busybox
weave run 10.2.1.1/24 --network weave:10.2.2.1/24,10.2.3.1/24 busybox
weave run 10.2.1.1/24 --network lane:10.2.2.1/24 busybox
weave run 10.2.1.1/24 --net=host busybox
weave run 10.2.1.1/24 --net=container:web busybox
weave run 10.2.1.1/24 -a stdout busybox
weave run 10.2.1.1 busybox
weave run 10.2.1.1/24
weave run --name x 10.2.1.1/24 busybox
weave run 10.2.1.1/24 --nope busybox
weave run 10.2.1.1/24 nosuch
weave attach web
weave attach net:default net:10.2.2.0/24 web
weave attach --without-dns 10.2.1.3/24 web
weave attach --rewrite-hosts --no-multicast-route web
weave attach
weave attach ''
weave attach 10.2.1.3/24
weave attach web net:default
weave detach 10.2.1.3/24
weave attach taken
weave detach web
weave detach 10.2.2.1/24 ip:10.2.1.3/24 web
weave expose
weave expose 10.2.1.132/24 -h exposed.weave.local --without-masquerade
weave hide
weave hide 10.2.1.132/24
weave dns-add web
weave dns-add 10.2.1.7 web -h www.weave.local
weave dns-add 10.2.1.7 10.2.1.8 -h db.weave.local
weave dns-add --network back 10.2.1.7/24 -h db
weave dns-add 10.2.1.7
weave dns-add a b
weave dns-add
weave dns-remove web
weave dns-remove -h db.weave.local
weave dns-remove 10.2.1.7 -h db.weave.local
weave dns-remove
weave dns-lookup web
weave dns-lookup 10.32.0.1
weave dns-lookup nothing
weave dns-lookup
weave rmpeer h3
weave rmpeer --force h3 h4
weave rmpeer alive
weave prime
weave reset
weave reset --force
weave stop
""",
    "launched, and not running": "weave status\nweave report\nweave version\nweave ps",
    "stopped": "weave status\nweave ps\nweave ps web\nweave ps nosuch\nweave report",
}
