# Takes off one machine what kubestrap's receipt there lists, and what its services made while they ran.
# bootstrap/reset.py puts assignments in front ($receipt, $etcd_data; $looking, to end before the first change) and
# reads the answers:
#
#   machine TAB id               the machine's id, when looking
#   nothing                      there is no receipt: nothing of ours is here
#   did TAB what                 was taken off
#   left TAB path TAB why        stays
#   refused TAB why              nothing was changed
#   failed TAB why               it stopped in the middle; the next run goes on
#
# Needs POSIX sh, coreutils, awk, systemd. The receipt goes last, so that a run that was ended is finished by another.
set -u
LC_ALL=C
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
state=${receipt%/*}
kubelet=/var/lib/kubelet
containerd=/var/lib/containerd
network=cbr0 # the name of the Pod network in its CNI configuration

newline='
'
did() { printf 'did\t%s\n' "$1"; }
left() { printf 'left\t%s\t%s\n' "$1" "$2"; }
die() {
	printf 'failed\t%s\n' "$1"
	exit 0
}
refuse() {
	printf 'refused\t%s\n' "$1"
	exit 0
}
exists() { [ -e "$1" ] || [ -L "$1" ]; }
listed() { awk -F '\t' -v kind="$1" '$1 == kind { print $2 }' "$receipt"; }
ours() { listed "$1" | grep -qxF -- "$2"; }

if [ "$looking" ]; then printf 'machine\t%s\n' "$(cat /etc/machine-id 2>/dev/null)"; fi
if ! [ -f "$receipt" ]; then
	found=
	for path in /etc/kubernetes/kubelet.conf /etc/kubernetes/admin.conf "$kubelet/config.yaml" \
		/etc/kubernetes/manifests/etcd.yaml /etc/kubernetes/manifests/kube-apiserver.yaml; do
		if exists "$path"; then found="$found $path"; fi
	done
	[ -z "$found" ] || refuse "Kubernetes is here (${found# }), but no receipt of kubestrap ($receipt): another tool made it, or the receipt was lost. kubeadm reset takes off what kubeadm made"
	echo nothing
	exit 0
fi
has_kubelet=
has_containerd=
if ours unit kubelet.service || ours file /etc/systemd/system/kubelet.service; then has_kubelet=yes; fi
if ours unit containerd.service || ours file /etc/systemd/system/containerd.service; then has_containerd=yes; fi

# --- what must not be crossed

# Mount points at or under any of the folders given, deepest first.
mounts() {
	awk '{ print $2 }' /proc/self/mounts | while read -r point; do
		# Blanks in names are told as octal numbers.
		point=$(printf %b "$(printf %s "$point" | sed 's/\\\([0-7][0-7][0-7]\)/\\0\1/g')")
		for folder; do
			case $point/ in "$folder"/*) printf '%s\n' "$point" ;; esac
		done
	done | sort -r -u
}

# The places where kubelet and containerd mount.
kubelets="^$kubelet/(pods/[^/]+/(volumes/[^/]+/[^/]+(/mount)?|volume-subpaths/.+|volumeDevices/.+)|plugins/kubernetes\.io/.+)\$"
containerds="^($containerd/io\.containerd\..+|$containerd/tmpmounts/.+|/run/containerd/io\.containerd\..+|/run/containerd/kubestrap)\$"
# Network namespaces of Pods. Other programs have theirs there as well; which are ours is noted with what was done there.
namespaces() {
	grep -ho '"netns": *"[^"]*"' /var/lib/cni/results/"$network"-* /var/lib/cni/results/cni-loopback-* 2>/dev/null |
		cut -d '"' -f 4 | sed 's,^/var/run/,/run/,' | grep '^/run/netns/cni-' | sort -u
}
running() {
	mounts "$kubelet" "$containerd" /run/containerd | grep -E -e "$kubelets" -e "$containerds"
	# shellcheck disable=SC2046
	mounts $(namespaces)
}
foreign() {
	mounts /etc/kubernetes "$kubelet" "$containerd" "$etcd_data" /etc/cni /opt/cni /etc/containerd /var/lib/cni "$state" \
		/run/containerd /run/flannel /var/log/pods /var/log/containers | grep -v -E -e "$kubelets" -e "$containerds" |
		while read -r point; do
			case $point in
			# A disk of its own under a whole folder is emptied, and stays.
			"$kubelet" | "$containerd" | "$etcd_data" | /opt/cni | /var/lib/cni | "$state") ;;
			*) printf '%s ' "$point" ;;
			esac
		done
}

found=$(foreign)
[ -z "$found" ] || refuse "something is mounted at ${found% }; unmount it, so that nothing of it is lost"
if [ "$has_containerd" ]; then
	for folder in /run/containerd/io.containerd.runtime.v2.task/*; do
		case ${folder##*/} in k8s.io | '*') continue ;; esac
		if [ "$(ls -A "$folder" 2>/dev/null)" ]; then
			refuse "containers of others run in containerd (its namespace ${folder##*/}); end them, so that nothing of them is lost"
		fi
	done
fi
[ -z "$looking" ] || exit 0

# --- what runs

stop() { # unit
	if systemctl is-active --quiet "$1" || [ "$(systemctl show -p ActiveState --value "$1" 2>/dev/null)" = activating ]; then
		timeout 120 systemctl stop "$1" >/dev/null 2>&1 || die "$1 does not stop: see systemctl status $1"
		did "$1 (stopped)"
	fi
	systemctl disable --quiet "$1" >/dev/null 2>&1
}

[ -z "$has_kubelet" ] || stop kubelet.service

# Processes in the control groups of Pods, wherever the groups are.
of_pods() {
	for group in /proc/[0-9]*/cgroup; do
		if grep -q '/kubepods[-./]' "$group" 2>/dev/null; then
			pid=${group#/proc/}
			printf '%s\n' "${pid%/cgroup}"
		fi
	done
}
serving=
if [ "$has_containerd" ]; then
	if exists /usr/local/bin/ctr && timeout 90 systemctl start containerd.service >/dev/null 2>&1; then
		serving=yes
		tasks=$(timeout 60 ctr -n k8s.io tasks ls -q 2>/dev/null)
		# shellcheck disable=SC2086
		[ -z "$tasks" ] || timeout 120 ctr -n k8s.io tasks rm -f $tasks >/dev/null 2>&1
		containers=$(timeout 60 ctr -n k8s.io containers ls -q 2>/dev/null)
		if [ "$containers" ]; then
			# shellcheck disable=SC2086
			timeout 120 ctr -n k8s.io containers rm $containers >/dev/null 2>&1
			did "$(printf '%s\n' "$containers" | wc -l) containers"
		fi
	fi
	# What containerd could not end, or did not know any more.
	for round in 1 2 3 4 5 6 7 8 9 10; do
		pids=$(of_pods)
		[ "$pids" ] || break
		# shellcheck disable=SC2086
		kill -s KILL $pids 2>/dev/null
		[ "$round" = 1 ] || sleep 1
	done
	[ -z "$(of_pods)" ] || die 'processes of Pods cannot be ended; restart the machine and run reset again'
	if systemctl is-active --quiet kubepods.slice; then
		timeout 60 systemctl stop kubepods.slice >/dev/null 2>&1 || die 'kubepods.slice does not stop: see systemctl status kubepods.slice'
	fi
fi

# --- packet filter rules

# Our chains, and jumps to them from others' chains, in one transaction a table; everything else stays as it is.
# A chain of a CNI plug-in is ours where the jump to it names our network, and those that networks share are where no
# other one uses them.
undo='
	function target(  i) { for (i = 3; i < NF; i++) if ($i == "-j" || $i == "-g") return $(i + 1) }
	function named() { return index($0, "name: \\\"" network "\\\"") }
	{ rule[NR] = $0 }
	$1 == "-A" && target() ~ /^CNI-/ && named() { ours[target()] = 1 }
	$1 == "-A" && target() ~ /^CNI-DN-/ && !named() { others = 1 }
	$1 == "-N" && $2 ~ /^(KUBE|FLANNEL)-/ { ours[$2] = 1 }
	$1 == "-N" && $2 ~ /^CNI-HOSTPORT-/ { shared[$2] = 1 }
	END {
		if (!others) for (chain in shared) ours[chain] = 1
		for (i = 1; i <= NR; i++) {
			$0 = rule[i]
			if ($1 == "-A" && !($2 in ours) && (target() in ours)) { sub(/^-A/, "-D", rule[i]); print rule[i] }
		}
		for (chain in ours) print "-F " chain
		for (chain in ours) print "-X " chain
	}'
# Runs a tool: the machine's, or that of the image at $root.
tool() { if [ "$root" ]; then chroot "$root" "$@"; else "$@"; fi; }
unfilter() { # root
	root=$1
	for family in ip ip6; do
		tool ${family}tables-restore --version >/dev/null 2>&1 || continue
		able=yes
		for table in mangle nat filter; do
			lines=$(tool ${family}tables -w 10 -t $table -S 2>/dev/null | awk -v network="$network" "$undo")
			[ "$lines" ] || continue
			if printf '*%s\n%s\nCOMMIT\n' "$table" "$lines" | tool ${family}tables-restore -w 10 --noflush 2>/dev/null; then
				did "${family}tables rules of table $table"
			else
				left "${family}tables table $table" 'the rules of kube-proxy, flannel and CNI plug-ins could not be removed'
			fi
		done
	done
	for table in 'ip kube-proxy' 'ip6 kube-proxy' 'ip flannel-ipv4' 'ip6 flannel-ipv6'; do
		# shellcheck disable=SC2086
		if tool nft delete table $table >/dev/null 2>&1; then did "nftables table $table"; fi
	done
}
# Programs in images made most of the rules, with tools that the machine may lack; plug-ins used the machine's.
if [ "$has_kubelet" ]; then
	able=
	image=$(listed image | grep '/kube-proxy:' | tail -n 1)
	if [ "$serving" ] && [ "$image" ] && mkdir -p /run/containerd/kubestrap &&
		timeout 60 ctr -n k8s.io images mount "$image" /run/containerd/kubestrap >/dev/null 2>&1; then
		unfilter /run/containerd/kubestrap
		umount /run/containerd/kubestrap
	fi
	unfilter ''
	[ "$able" ] || left 'packet filter rules' 'nothing here can remove those of kube-proxy and flannel; the next boot does'
fi

# --- mounts

if [ "$has_containerd" ]; then
	stop containerd.service
	for entry in /proc/[0-9]*; do
		case $(tr '\0' ' ' 2>/dev/null <"$entry/cmdline") in
		*containerd-shim-runc-v2\ *-namespace\ k8s.io\ *) kill -s KILL "${entry#/proc/}" 2>/dev/null ;;
		esac
	done
fi
running | while read -r point; do
	timeout 30 umount -- "$point" 2>/dev/null || umount -l -- "$point" 2>/dev/null
done
still=$(running; foreign)
[ -z "$still" ] || die "cannot unmount $(printf %s "$still" | tr '\n' ' ')"

# --- the network of Pods

if [ "$has_kubelet" ] && command -v ip >/dev/null 2>&1; then
	for interface in cni0 flannel.1 flannel-v6.1 kube-ipvs0; do
		if [ -d "/sys/class/net/$interface" ] && ip link delete "$interface" 2>/dev/null; then did "interface $interface"; fi
	done
	# Those of flannel's backend host-gw.
	for family in 4 6; do
		case $family in 4) name=FLANNEL_NETWORK ;; *) name=FLANNEL_IPV6_NETWORK ;; esac
		pods=$(sed -n "s/^$name=//p" /run/flannel/subnet.env 2>/dev/null)
		[ "$pods" ] || continue
		ip -$family route show root "$pods" 2>/dev/null | while read -r destination via gateway _; do
			if [ "$via" = via ] && ip -$family route delete "$destination" via "$gateway" 2>/dev/null; then
				did "route to $destination"
			fi
		done
	done
fi

# Ended by force, keepalived leaves the virtual address where it is.
if ours file /etc/kubernetes/kubestrap-vip.conf; then
	sed -n 's,^ *\([0-9.]*/32\) dev \([^ ]*\)$,\1 \2,p' /etc/kubernetes/kubestrap-vip.conf | while read -r address interface; do
		if ip addr delete "$address" dev "$interface" 2>/dev/null; then did "address $address on $interface"; fi
	done
fi

# --- files

remove() {
	for path; do
		if exists "$path"; then
			rm -rf --one-file-system -- "$path" || die "cannot remove $path"
			did "$path"
		fi
	done
}

IFS=$newline
set -f
for path in $(listed file); do
	if [ -d "$path" ] && ! [ -L "$path" ]; then
		left "$path" 'a folder stands where our file was'
	elif exists "$path"; then
		rm -f -- "$path" || die "cannot remove $path"
		did "$path"
	fi
done
set +f
unset IFS

if [ "$has_kubelet" ]; then
	remove /etc/kubernetes/kubelet.conf /etc/kubernetes/bootstrap-kubelet.conf
	remove "$kubelet"/pki "$kubelet"/pods "$kubelet"/pods-api "$kubelet"/plugins "$kubelet"/plugins_registry "$kubelet"/pod-resources \
		"$kubelet"/device-plugins "$kubelet"/checkpoints "$kubelet"/usernamespaces "$kubelet"/images "$kubelet"/image_manager \
		"$kubelet"/*_manager_state "$kubelet"/*_pods_state "$kubelet"/.checkpoint* "$kubelet"/kubelet.sock \
		/var/log/pods /var/log/containers
fi
if ours directory "$etcd_data"; then
	remove "$etcd_data/member" "$etcd_data/kubestrap-recovery" "$etcd_data"/kubestrap-before-* /etc/kubernetes/recovery
fi
if [ "$has_containerd" ]; then
	remove "$containerd"/io.containerd.* "$containerd/tmpmounts" /run/containerd
	for namespace in $(namespaces); do remove "$namespace"; done
	remove /etc/cni/net.d/10-flannel.conflist "/var/lib/cni/networks/$network" /var/lib/cni/results/"$network"-* \
		/var/lib/cni/results/cni-loopback-* /var/lib/cni/flannel /run/flannel /run/nri/nri.sock
	rmdir /run/nri 2>/dev/null
fi

# The block of ours alone; the file keeps its mode and owner, and is whole at any time.
if grep -q '^# BEGIN kubestrap$' /etc/hosts 2>/dev/null; then
	file=$(readlink -f /etc/hosts)
	new=${file%/*}/.hosts.kubestrap
	if cp -a "$file" "$new" &&
		awk '/^# BEGIN kubestrap$/ { ours = 1 } !ours { print } /^# END kubestrap$/ { ours = 0 }' "$file" >"$new" &&
		mv "$new" "$file"; then
		did 'lines in /etc/hosts'
	else
		left /etc/hosts 'the lines of kubestrap could not be taken out'
	fi
fi

systemctl daemon-reload
systemctl reset-failed kubelet.service containerd.service 2>/dev/null

# Folders that systems have without us.
common() {
	case $1 in
	/etc/kubernetes | /etc/kubernetes/* | /etc/cni | /etc/cni/* | /etc/containerd | /etc/containerd/*) return 1 ;;
	/etc/systemd/system/*.service.d) return 1 ;;
	/ | /etc | /etc/* | /usr | /usr/* | /opt | /var | /var/lib | /var/log | /run | /home | /root | /srv | /tmp) return 0 ;;
	esac
	return 1
}

# Deepest first; with what others put there they stay.
folders=$({
	listed directory
	printf '%s\n' /etc/kubernetes "$kubelet" "$containerd" /etc/cni /opt/cni /var/lib/cni /var/lib/cni/networks \
		/var/lib/cni/results /etc/containerd
} | sort -r -u)
IFS=$newline
set -f
for folder in $folders; do
	if common "$folder" || ! [ -d "$folder" ] || [ -L "$folder" ]; then continue; fi
	if rmdir -- "$folder" 2>/dev/null; then
		did "$folder"
		continue
	fi
	for entry in $(ls -A "$folder"); do
		if ! printf '%s\n' "$folders" | grep -qxF -- "$folder/$entry"; then left "$folder/$entry" 'not of kubestrap'; fi
	done
done
set +f
unset IFS

# --- our own state, the receipt last

if ours file /etc/sysctl.d/90-kubestrap.conf; then
	left 'kernel state (modules, sysctls)' 'in force until the next boot; others may count on it by now'
fi
if grep -q '^# kubestrap: ' /etc/fstab 2>/dev/null; then left 'swap' 'it stays off: see the lines of kubestrap in /etc/fstab'; fi
remove "$state/blobs" "$state/placed" "$state/units"
for entry in "$state"/.[!.]*; do
	case $entry in */.receipt) remove "$entry" ;; esac
done
if [ -d "$state/aside" ]; then left "$state/aside" 'what --force moved there, of another cluster; delete it when nothing of it is needed'; fi
rm -f -- "$receipt" || die "cannot remove $receipt"
rmdir -- "$state" 2>/dev/null
did "$receipt"
