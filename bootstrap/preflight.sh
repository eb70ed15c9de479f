# What preflight looks at on one machine. bootstrap/preflight.py puts assignments in front and reads the answers:
#
#   error|warning|unchecked TAB check TAB what TAB fix     what is wrong (or could not be seen), and what to do about it
#   clock TAB seconds                            the machine's time (Unix), first of all
#   id TAB kind TAB value                        what should be this machine's alone
#   sync TAB microseconds                        how long a write to etcd's disk took to be there to stay
#   route TAB interface TAB network TAB mask     as the kernel has them, in hexadecimal numbers
#   listen TAB tcp|udp TAB port                  somebody listens to other machines; the port is hexadecimal
#   came TAB number                              stray datagrams that came so far
#   leftover TAB check TAB path                  of another cluster
#   mine                                         kubestrap has made this machine a node
#
# Nothing is changed: what is written to measure the disk is removed again. Needs POSIX sh, coreutils, awk, sed, grep.
# $root is empty but in tests.
set -u
LC_ALL=C
[ "$root" ] || PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH

tell() { printf '%s\t%s\t%s\t%s\n' "$@"; }
error() { tell error "$@"; }
warning() { tell warning "$@"; }
has() { command -v "$1" >/dev/null 2>&1; }
dashed() { printf %s "$1" | tr / -; }
exists() { [ -e "$root$1" ] || [ -L "$root$1" ]; }

# Whether our receipt on this machine lists one of these paths (under any kind). On one that was adopted ($adopted), and
# may have none yet, whatever Kubernetes has there is the cluster's.
ours() {
	[ -z "$adopted" ] || return 0
	for listed; do
		if awk -F '\t' -v path="$listed" '$2 == path { found = 1 } END { exit !found }' "$root$receipt" 2>/dev/null; then return 0; fi
	done
	return 1
}

# Of a cluster of ours on this machine, unless it is just being made.
mine=
if ours /etc/systemd/system/kubelet.service; then
	mine=yes
	echo mine
fi

printf 'clock\t%s\n' "$(date +%s.%N)"

# What etcd does all the time: writes of some KiB, each of which must be on the disk before the next.
measure() { # folder
	file=$(mktemp "$1/.kubestrap-XXXXXX" 2>/dev/null) || return # DirWritable tells
	trap 'rm -f -- "$file"' EXIT HUP TERM
	dd if=/dev/zero of="$file" bs=4096 count=20 2>/dev/null
	spent=0
	block=0
	while [ "$block" -lt 20 ] && [ "$spent" -lt 3000000 ]; do
		before=$(date +%s%N)
		dd if=/dev/zero of="$file" bs=4096 count=1 seek="$block" conv=notrunc oflag=dsync 2>/dev/null || {
			tell unchecked EtcdDisk "how fast the disk of etcd's data is: dd cannot write there piece by piece" 'install GNU coreutils'
			return
		}
		took=$((($(date +%s%N) - before) / 1000))
		printf 'sync\t%s\n' "$took"
		spent=$((spent + took))
		block=$((block + 1))
	done
}
if [ "$etcd_data" ] && ! ours "$manifests/etcd.yaml"; then
	folder=$etcd_data
	while ! [ -d "$root$folder" ]; do folder=${folder%/*}; done
	(measure "$root$folder") &
fi

printf 'id\tproduct_uuid\t%s\n' "$(cat "$root/sys/class/dmi/id/product_uuid" 2>/dev/null)"
printf 'id\tmachine-id\t%s\n' "$(cat "$root/etc/machine-id" 2>/dev/null)"

if [ "$(id -u)" != 0 ]; then
	error IsPrivilegedUser 'commands do not run as root' 'log in as root, or as a user with passwordless sudo'
fi

machine=$(uname -m)
case $machine in
x86_64) here=linux/amd64 ;;
aarch64) here=linux/arm64 ;;
*) here=linux/$machine ;;
esac
if [ "$here" != "$platform" ]; then
	error Architecture "this is $here, the bundle is for $platform" "use a bundle for $here"
fi

if [ "$(cat "$root/proc/1/comm" 2>/dev/null)" != systemd ] || ! [ -d "$root/run/systemd/system" ]; then
	error Systemd 'systemd is not process 1' 'kubelet and containerd run as systemd units: use an image with systemd'
fi

# --- what the machine has to offer

if [ "$role" = control-plane ]; then
	cpus=$(nproc)
	if [ "$cpus" -lt 2 ]; then
		error NumCPU "$cpus CPU; a control plane needs 2" 'give the machine more CPUs'
	fi
	memory=$(awk '$1 == "MemTotal:" { print int($2 / 1024) }' "$root/proc/meminfo")
	if [ "${memory:-0}" -lt 1700 ]; then
		error Mem "${memory:-0} MiB of memory; a control plane needs 1700" 'give the machine more memory'
	fi
fi

# Each may be a mount of its own; of two folders on one file system the first speaks.
state_folders="/var/lib /var/lib/containerd /var/lib/kubelet $etcd_data"
spoken=' '
for folder in $state_folders; do
	[ -d "$root$folder" ] || continue
	# shellcheck disable=SC2046
	set -- $(df -Pk "$root$folder" 2>/dev/null | awk 'NR == 2 { print $2, $4, $6 }') $(stat -f -c '%c %d' "$root$folder" 2>/dev/null)
	[ $# -ge 3 ] || continue
	case $spoken in *" $3 "*) continue ;; esac
	spoken="$spoken$3 "
	if [ "$2" -lt 2097152 ]; then
		error DiskSpace "$(($2 / 1024)) MiB are free on $3, where $folder is; images, logs and etcd need 2048" 'free or add disk space'
	elif [ "$(($2 / 1024 * 100))" -lt "$(($1 / 1024 * 15))" ]; then
		warning DiskSpace "less than 15 % of $3 are free, where $folder is" 'free disk space: kubelets remove images and evict Pods when it is short'
	fi
	# Some file systems have no such number, and tell 0.
	if [ "${4:-0}" = 0 ]; then
		continue
	elif [ "$5" -lt 20000 ]; then
		error Inodes "$5 inodes are free on $3, where $folder is; images and Pods need 20000" 'remove files, or make the file system anew with more inodes'
	elif [ "$(($5 * 20))" -lt "$4" ]; then
		warning Inodes "less than 5 % of the inodes of $3 are free, where $folder is" 'remove files: kubelets evict Pods when inodes are short'
	fi
done

# Not every shell's "test -w" tells root that a file system is read-only.
read_only() { # folder
	awk -v path="$1/" '
		{ point = $2; if (point != "/") point = point "/" }
		index(path, point) == 1 && length(point) >= best { best = length(point); options = "," $4 "," }
		END { exit options !~ /,ro,/ }' "$root/proc/mounts" 2>/dev/null
}
for folder in /etc /opt /usr/local $state_folders; do
	case $folder in /var/lib/*) [ -d "$root$folder" ] || continue ;; esac
	if ! [ -w "$root$folder" ]; then
		error "DirWritable-$(dashed "$folder")" "$folder cannot be written to" 'mount it writable: binaries, configuration and state go there'
	elif read_only "$folder"; then
		error "DirWritable-$(dashed "$folder")" "$folder is on a file system that is mounted read-only" 'mount it writable: binaries, configuration and state go there'
	fi
done

if [ "$(awk 'NR > 1' "$root/proc/swaps" 2>/dev/null)" ] && [ "$swap" = off ]; then
	warning Swap 'swap is on' 'nothing to do: the phase prepare turns it off'
fi

# --- kernel

release=$(uname -r)
case $release in
5.4 | 5.4[.-]* | 5.10 | 5.10[.-]* | 5.15 | 5.15[.-]* | [6-9].* | [1-9][0-9]*.*) ;;
*) error SystemVerification "kernel $release; Kubernetes supports 5.4, 5.10, 5.15, and 6 or newer" 'install a newer kernel' ;;
esac

# The features themselves are looked for where the kernel does not tell how it was built.
built() {
	for file in "$root/boot/config-$release" "$root/usr/lib/modules/$release/config" "$root/lib/modules/$release/config"; do
		if [ -r "$file" ]; then cat "$file" && return; fi
	done
	if [ -r "$root/proc/config.gz" ] && has zcat; then zcat "$root/proc/config.gz"; fi
}
options=$(built)
if [ "$options" ]; then
	absent=
	for option in NAMESPACES NET_NS PID_NS IPC_NS UTS_NS CGROUPS CPUSETS MEMCG INET PROC_FS NETFILTER_XT_TARGET_REDIRECT NETFILTER_XT_MATCH_COMMENT FAIR_GROUP_SCHED; do
		case "
$options" in
		*"
CONFIG_$option="[ym]*) ;;
		*) absent="$absent CONFIG_$option" ;;
		esac
	done
	if [ "$absent" ]; then error SystemVerification "the kernel was built without$absent" 'install a kernel that has them'; fi
else
	for namespace in net pid ipc uts mnt; do
		if ! exists "/proc/self/ns/$namespace"; then
			error SystemVerification "the kernel has no $namespace namespaces" 'install a kernel that has them'
		fi
	done
fi
if ! grep -qw overlay "$root/proc/filesystems" && ! modprobe -n -q overlay 2>/dev/null; then
	error SystemVerification 'the kernel has no overlay file system' 'install a kernel (or its modules) with overlay: containerd needs it'
fi

if [ -f "$root/sys/fs/cgroup/cgroup.controllers" ]; then
	absent=
	for controller in cpu cpuset memory pids; do
		grep -qw "$controller" "$root/sys/fs/cgroup/cgroup.controllers" || absent="$absent $controller"
	done
	if [ "$absent" ]; then
		error SystemVerification "cgroup v2 without the controllers$absent" 'turn them on (kernel command line, or the container this machine is)'
	fi
else
	absent=
	for controller in cpu cpuacct cpuset devices freezer memory pids; do
		awk -v name="$controller" '$1 == name && $4 == 1 { found = 1 } END { exit !found }' "$root/proc/cgroups" || absent="$absent $controller"
	done
	if [ "$absent" ]; then
		error SystemVerification "cgroup v1 without the controllers$absent" 'turn them on with the kernel command line'
	fi
	if [ "$cgroup_v1" = allowed ]; then
		warning CgroupV1 'cgroup v1, which kubelets will soon not support; the inventory allows it (failCgroupV1: false)' 'boot with systemd.unified_cgroup_hierarchy=1'
	else
		error CgroupV1 'cgroup v1, with which kubelets of this version do not start' 'boot with systemd.unified_cgroup_hierarchy=1, or set failCgroupV1: false in cluster.kubelet.config'
	fi
fi

# The effect counts: a kernel without modules has no entry for what is built in.
bridged=/proc/sys/net/bridge/bridge-nf-call-iptables
if ! exists "$bridged" && ! modprobe -n -q br_netfilter 2>/dev/null; then
	error "FileContent-$(dashed "$bridged")" 'there is no kernel module br_netfilter' 'install the modules of the running kernel'
fi
for setting in $forwarding; do
	if [ "$(cat "$root$setting" 2>/dev/null)" != 1 ] && ! [ -w "$root$setting" ]; then
		error "FileContent-$(dashed "$setting")" "$setting is not 1, and cannot be written to" 'set it, or mount /proc/sys writable'
	fi
done

# --- programs and services

for program in mount umount losetup cp tar systemctl flock; do
	has "$program" || error "FileExisting-$program" "there is no $program" "install the package that has $program"
done
[ -z "$fetches" ] || has curl || has wget ||
	error FileExisting-curl 'there is neither curl nor wget, by which machines fetch from cluster.bundle.url' 'install curl, or take cluster.bundle.url out of the inventory'
for program in modprobe iptables conntrack ethtool; do
	has "$program" || warning "FileExisting-$program" "there is no $program" "install it: kubelets, CNI plug-ins or whoever looks for a fault use it"
done

active() { systemctl is-active --quiet "$1" 2>/dev/null; }
for service in containerd kubelet; do
	if active "$service" && ! ours "/etc/systemd/system/$service.service"; then
		error "Service-$service" "$service runs here, and kubestrap did not install it" "stop and remove it, or use another machine"
	fi
done
for service in docker crio; do
	if active "$service"; then
		warning "Service-$service" "$service runs here too; kubestrap brings containerd" "remove $service where nothing else needs it"
	fi
done
if active firewalld; then
	warning Firewalld 'firewalld is active' "open the ports $open for the other machines, and let the Pod network through"
fi

# Only names are told: addresses of proxies can hold passwords.
proxies=$(systemctl show-environment 2>/dev/null | sed -n 's/^\(https\{0,1\}_proxy\)=.*/\1/Ip' | tr '\n' ' ')
if [ "$proxies" ]; then
	exempt=$(systemctl show-environment | sed -n 's/^no_proxy=//Ip' | tr '\n' ,)
	for destination in $direct; do
		case ,$exempt, in
		*",$destination,"*) ;;
		*) warning HTTPProxy "systemd gives ${proxies% } to every unit, without $destination in NO_PROXY" "add $destination to NO_PROXY (DefaultEnvironment of systemd)" ;;
		esac
	done
fi

# --- names

# Not "getent hosts", which asks DNS for an IPv6 address before it looks for an IPv4 one in /etc/hosts.
if has getent && ! getent ahosts "$name" >/dev/null 2>&1; then
	warning Hostname "the name $name cannot be resolved here" 'add it to DNS or to /etc/hosts'
fi
if [ "$endpoint" ] && has getent && ! getent ahosts "$endpoint" >/dev/null 2>&1; then
	error EndpointName "the name $endpoint, under which the cluster is to be found, cannot be resolved here" 'add it to DNS, or correct cluster.endpoint.name'
fi
# The last of the files that says something counts, and what the machine's maker gave it counts more than its own.
if [ "$entry" ] && has cloud-init && ! exists /etc/cloud/cloud-init.disabled; then
	for file in "$root"/etc/cloud/cloud.cfg "$root"/etc/cloud/cloud.cfg.d/*.cfg "$root"/var/lib/cloud/instance/vendor-cloud-config.txt "$root"/var/lib/cloud/instance/cloud-config.txt; do
		awk -v file="${file#"$root"}" '/^manage_etc_hosts[ \t]*:/ {
			sub(/#.*/, "")
			print file ":" NR, tolower($NF) }' "$file" 2>/dev/null
	done | awk '{ place = $1; value = $NF } END { gsub(/["\047]/, "", value); print place, value }' | while read -r place value; do
		case $value in true | yes | on | template) ;; *) continue ;; esac
		case $place in
		/etc/*) fix='write manage_etc_hosts: localhost there' ;;
		*) fix='write manage_etc_hosts: localhost into the user data (or vendor data) that the machine is given' ;;
		esac
		warning CloudInit "cloud-init writes /etc/hosts anew at every boot, and $entry would be gone from it: manage_etc_hosts is $value in $place" "$fix"
	done
fi
if ! [ -s "$root/etc/resolv.conf" ]; then
	warning ResolvConf '/etc/resolv.conf is empty or missing' 'name a server in it: Pods resolve what is outside of the cluster by it'
elif ! [ -e "$root/run/systemd/resolve/resolv.conf" ] && grep -Eq '^nameserver[[:space:]]+(127\.|::1)' "$root/etc/resolv.conf"; then
	warning ResolvConf '/etc/resolv.conf names this machine itself; CoreDNS would ask itself for ever' 'name a server in it that is not on a loopback address'
fi

# --- the address that the kubelet here was given by an earlier run

addresses() { ip -o addr show scope global 2>/dev/null | awk '{ sub("/.*", "", $4); print $4 }'; }
was=$(sed -n 's/.*--node-ip=\([^" \\,]*\).*/\1/p' "$root$kubelet_flags" 2>/dev/null)
if [ "$was" ] && { [ "${address:-$was}" != "$was" ] || { has ip && ! addresses | grep -q -x -F -e "$was"; }; }; then
	places=$(cd "$root/" && grep -l -w -F -e "$was" etc/hosts etc/kubernetes/*.conf etc/kubernetes/manifests/*.yaml "${kubelet_flags#/}" 2>/dev/null | sed 's,^,/,' | tr '\n' ' ')
	is=${address:-$(addresses | tr '\n' ' ')}
	what="its address was $was when it became a Node, and is ${is% } now; ${places% } hold the old one"
	if [ "$role" = control-plane ]; then
		error NodeAddress "$what, and so do certificates" "give the machine $was again, or set nodeAddress to it where it has both"
	else
		warning NodeAddress "$what" 'nothing to do: this run gives the kubelet the new one'
	fi
fi

# --- networks

awk 'NR > 1 && $8 != "00000000" { print "route\t" $1 "\t" $2 "\t" $8 }' "$root/proc/net/route" 2>/dev/null
awk '$2 != "00" && $1 !~ /^(f[ef]|0000000000000000)/ && $10 != "lo" { print "route\t" $10 "\t" $1 "\t" $2 }' "$root/proc/net/ipv6_route" 2>/dev/null

ip -o "-$family" addr show scope global 2>/dev/null | awk '/ dynamic / { print $2, $4 }' | while read -r interface address; do
	case $interface in cni* | flannel* | docker* | podman* | virbr* | veth* | cali* | cilium*) continue ;; esac
	warning DHCP "${address%/*} on $interface is leased (DHCP), and a node keeps its address for good" 'reserve the address for this machine, or configure it fixed'
done

# --- what is in the way

# The pids of who listens on port $1 of any address; 0 stands for whoever is out of sight.
holders() { # port [tcp|udp]
	sockets=$(awk -v port="$(printf ':%04X' "$1")" -v kind="${2-tcp}" '
		$4 == (kind == "udp" ? "07" : "0A") && substr($2, length($2) - 4) == port { print "socket:[" $10 "]" }' \
		"$root/proc/net/${2-tcp}" "$root/proc/net/${2-tcp}6" 2>/dev/null)
	for socket in $sockets; do
		# Of a single folder ls would not tell the name.
		pid=$(ls -l "$root"/proc/[0-9]*/fd /dev/null 2>/dev/null | awk -v socket="$socket" '
			/^\// { pid = $0; sub(/\/fd:$/, "", pid); sub(/.*\//, "", pid) }
			$NF == socket { print pid; exit }')
		echo "${pid:-0}"
	done
}

port() { # port program(as in comm) what-of-ours-runs-it
	for pid in $(holders "$1" | sort -u); do
		program=$(cat "$root/proc/$pid/comm" 2>/dev/null)
		if [ "$program" = "$2" ] && ours "$3"; then continue; fi
		error "Port-$1" "TCP port $1 is in use by ${program:-a process out of sight}${program:+ (pid $pid)}" 'stop it, or let it listen elsewhere'
	done
}

if [ "$role" = control-plane ]; then
	port "$api_port" kube-apiserver "$manifests/kube-apiserver.yaml"
	port 10257 kube-controller "$manifests/kube-controller-manager.yaml"
	port 10259 kube-scheduler "$manifests/kube-scheduler.yaml"
fi
if [ "$etcd_data" ]; then
	for number in 2379 2380 2381; do port "$number" etcd "$manifests/etcd.yaml"; done
fi
for number in $proxy_ports; do port "$number" haproxy "$manifests/kubestrap-proxy.yaml"; done
port 10248 kubelet /etc/systemd/system/kubelet.service
if [ "$role" != etcd ]; then port 10250 kubelet /etc/systemd/system/kubelet.service; fi

if [ "$proxy" ]; then
	port 10249 kube-proxy /etc/systemd/system/kubelet.service
	port 10256 kube-proxy /etc/systemd/system/kubelet.service
fi
if [ "$vxlan" ]; then
	# Out of sight is the kernel itself, whose VXLAN it is.
	for pid in $(holders "$vxlan" udp | sort -u | grep -vx 0); do
		error "Port-$vxlan" "UDP port $vxlan is in use by $(cat "$root/proc/$pid/comm" 2>/dev/null) (pid $pid)" 'stop it, or set cluster.addons.flannel.port'
	done
fi
for kind in tcp udp; do
	awk -v kind="$kind" '
		$4 == (kind == "udp" ? "07" : "0A") && $2 !~ /^(......7F|0000000000000000FFFF0000......7F|00000000000000000000000001000000):/ {
			sub(/.*:/, "", $2); print "listen\t" kind "\t" $2
		}' "$root/proc/net/$kind" "$root/proc/net/${kind}6" 2>/dev/null | sort -u
done

# --- what another cluster left

leftover() { printf 'leftover\t%s-%s\t%s\n' "$1" "$(dashed "$2")" "$2"; }
filled() { [ "$(ls -A "$root$1" 2>/dev/null)" ]; }
found=
for path in "$root$manifests"/*; do
	path=${path#"$root"}
	if exists "$path" && ! ours "$path"; then
		leftover FileAvailable "$path"
		found=yes
	fi
done
if [ "$workflow" = init ]; then
	for path in $kubeconfigs; do
		if exists "$path" && ! ours "$path" && ! { [ "$path" = "${kubelet_files%% *}" ] && [ "$mine" ]; }; then
			leftover FileAvailable "$path"
			found=yes
		fi
	done
	if [ "$etcd_data" ] && filled "$etcd_data" && ! ours "$etcd_data" "$manifests/etcd.yaml"; then
		leftover DirAvailable "$etcd_data"
		found=yes
	fi
	# A CA alone may have been put there for the new cluster.
	if [ "$found" ] && filled "$pki" && ! ours "$pki/ca.crt"; then leftover DirAvailable "$pki"; fi
else
	for path in $kubelet_files; do
		# A kubelet that registered wrote kubelet.conf itself: the receipt has what it began with.
		# shellcheck disable=SC2086
		if exists "$path" && ! ours $kubelet_files; then leftover FileAvailable "$path"; fi
	done
fi
if ! [ "$mine" ]; then
	for entry in config.yaml pki pods; do
		if exists "/var/lib/kubelet/$entry"; then
			leftover DirAvailable /var/lib/kubelet
			break
		fi
	done
	pods=$(grep -l '/kubepods[-./]' "$root"/proc/[0-9]*/cgroup 2>/dev/null | wc -l)
	if [ "$pods" -gt 0 ]; then
		error RunningPods "$pods processes of Pods run here, and they are not of kubestrap" 'remove that cluster from the machine first (kubeadm reset), or use another machine'
	fi
fi
# containerd takes the first by name.
if [ "$cni" ] && ! ours /etc/systemd/system/containerd.service; then
	for path in "$root"/etc/cni/net.d/*; do
		path=${path#"$root"}
		case $path in *.conf | *.conflist | *.json) ;; *) continue ;; esac
		if ! exists "$path"; then
			continue
		elif [ "$(printf '%s\n' "$path" "$cni" | sort | head -n 1)" = "$path" ]; then
			leftover FileAvailable "$path"
		else
			warning "FileAvailable-$(dashed "$path")" "$path is another Pod network's, and is used until $cni is there" 'remove it, unless something else needs it'
		fi
	done
fi

wait
case $family in
6) awk '$1 == "Udp6NoPorts" { print "came\t" $2 }' "$root/proc/net/snmp6" 2>/dev/null ;;
*) awk '$1 == "Udp:" && $3 ~ /^[0-9]/ { print "came\t" $3 }' "$root/proc/net/snmp" 2>/dev/null ;;
esac
exit 0
