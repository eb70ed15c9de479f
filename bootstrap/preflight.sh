# What preflight looks at on one machine. bootstrap/preflight.py puts assignments in front and reads the answers:
#
#   error|warning TAB check TAB what TAB fix     what is wrong, and what to do about it
#   clock TAB seconds                            the machine's time (Unix), first of all
#   id TAB kind TAB value                        what should be this machine's alone
#
# Nothing is changed. Needs POSIX sh, coreutils, awk, sed, grep. $root is empty but in tests.
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

# Whether our receipt on this machine lists one of these paths (under any kind).
ours() {
	for listed; do
		if awk -F '\t' -v path="$listed" '$2 == path { found = 1 } END { exit !found }' "$root$receipt" 2>/dev/null; then return 0; fi
	done
	return 1
}

printf 'clock\t%s\n' "$(date +%s.%N)"
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

# /var/lib may be a mount of its own; of two folders on one file system the first speaks.
disk=$(df -Pk "$root/var/lib" 2>/dev/null | awk 'NR == 2 { print $2, $4, $6 }')
if [ -n "$disk" ]; then
	# shellcheck disable=SC2086
	set -- $disk
	if [ "$2" -lt 2097152 ]; then
		error DiskSpace "$(($2 / 1024)) MiB are free on $3, where /var/lib is; images and logs need 2048" 'free or add disk space'
	elif [ "$(($2 / 1024 * 100))" -lt "$(($1 / 1024 * 15))" ]; then
		warning DiskSpace "less than 15 % of $3 are free, where /var/lib is" 'free disk space: kubelets remove images and evict Pods when it is short'
	fi
fi

for folder in /etc /opt /usr/local /var/lib; do
	if ! [ -w "$root$folder" ]; then
		error "DirWritable-$(dashed "$folder")" "$folder cannot be written to" 'mount it writable: binaries, configuration and state go there'
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

# --- what is in the way

# The pids of who listens on TCP port $1 of any address.
holders() {
	sockets=$(awk -v port="$(printf ':%04X' "$1")" '
		$4 == "0A" && substr($2, length($2) - 4) == port { print "socket:[" $10 "]" }' \
		"$root/proc/net/tcp" "$root/proc/net/tcp6" 2>/dev/null)
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
	if [ "$etcd_data" ]; then
		for number in 2379 2380 2381; do port "$number" etcd "$manifests/etcd.yaml"; done
	fi
fi
port 10248 kubelet /etc/systemd/system/kubelet.service
port 10250 kubelet /etc/systemd/system/kubelet.service

leftover='is there, and is not of kubestrap: a leftover of another cluster?'
if [ "$workflow" = init ]; then
	for component in kube-apiserver kube-controller-manager kube-scheduler etcd; do
		path=$manifests/$component.yaml
		if exists "$path" && ! ours "$path"; then
			error "FileAvailable-$(dashed "$path")" "$path $leftover" 'remove that cluster from the machine first (kubeadm reset), or move the file away'
		fi
	done
	if [ "$etcd_data" ] && [ "$(ls -A "$root$etcd_data" 2>/dev/null)" ] && ! ours "$etcd_data" "$manifests/etcd.yaml"; then
		error "DirAvailable-$(dashed "$etcd_data")" "$etcd_data is not empty, and its data are not of kubestrap" 'move the data away'
	fi
else
	for path in $kubelet_files; do
		# A kubelet that registered wrote kubelet.conf itself: the receipt has what it began with.
		# shellcheck disable=SC2086
		if exists "$path" && ! ours $kubelet_files; then
			error "FileAvailable-$(dashed "$path")" "$path $leftover" 'remove that cluster from the machine first (kubeadm reset), or move the file away'
		fi
	done
fi
