# Takes off one machine what kubestrap's receipt there lists, and what its services made while they ran.
# bootstrap/reset.py puts assignments in front ($receipt, $etcd_data) and reads the answers:
#
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

newline='
'
did() { printf 'did\t%s\n' "$1"; }
left() { printf 'left\t%s\t%s\n' "$1" "$2"; }
die() {
	printf 'failed\t%s\n' "$1"
	exit 0
}
exists() { [ -e "$1" ] || [ -L "$1" ]; }
listed() { awk -F '\t' -v kind="$1" '$1 == kind { print $2 }' "$receipt"; }
ours() { listed "$1" | grep -qxF -- "$2"; }

if ! [ -f "$receipt" ]; then
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
# Of Pods and containers: kubelet's and containerd's own.
running() {
	mounts "$kubelet/pods" "$kubelet/plugins" /run/containerd
	mounts "$containerd" | grep -e "^$containerd/io\.containerd\." -e "^$containerd/tmpmounts/"
	mounts /run/netns | grep '/cni-'
}

foreign=$(mounts /etc/kubernetes "$kubelet" "$containerd" "$etcd_data" /etc/cni /opt/cni /etc/containerd /var/lib/cni "$state" | while read -r point; do
	case $point in
	# A disk of its own under a whole folder is emptied, and stays.
	"$kubelet" | "$containerd" | "$etcd_data" | /opt/cni | /var/lib/cni | "$state") ;;
	"$kubelet"/pods/* | "$kubelet"/plugins/* | "$containerd"/io.containerd.* | "$containerd"/tmpmounts/*) ;;
	*) printf '%s ' "$point" ;;
	esac
done)
if [ "$foreign" ]; then
	printf 'refused\tsomething is mounted at %s; unmount it, so that nothing of it is lost\n' "${foreign% }"
	exit 0
fi

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
if [ "$has_containerd" ]; then
	if exists /usr/local/bin/ctr && timeout 90 systemctl start containerd.service >/dev/null 2>&1; then
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
still=$(running | tr '\n' ' ')
[ -z "$still" ] || die "cannot unmount $still"

# --- the network of Pods

if command -v ip >/dev/null 2>&1; then
	for interface in cni0 flannel.1 flannel-v6.1 kube-ipvs0; do
		if [ -d "/sys/class/net/$interface" ] && ip link delete "$interface" 2>/dev/null; then did "interface $interface"; fi
	done
fi

# Our chains, and jumps to them from others' chains, in one transaction a table; everything else stays as it is.
for family in ip ip6; do
	if ! command -v ${family}tables-restore >/dev/null 2>&1; then continue; fi
	for table in mangle nat filter; do
		undo=$(${family}tables -w 10 -t $table -S 2>/dev/null | awk '
			function ours(name) { return name ~ /^(KUBE|FLANNEL)-/ }
			$1 == "-N" && ours($2) { chains[++count] = $2 }
			$1 == "-A" && !ours($2) {
				for (i = 3; i < NF; i++) if (($i == "-j" || $i == "-g") && ours($(i + 1))) { $1 = "-D"; print; break }
			}
			END {
				for (i = 1; i <= count; i++) print "-F " chains[i]
				for (i = 1; i <= count; i++) print "-X " chains[i]
			}')
		if [ "$undo" ]; then
			if printf '*%s\n%s\nCOMMIT\n' "$table" "$undo" | ${family}tables-restore -w 10 --noflush 2>/dev/null; then
				did "${family}tables rules of table $table"
			else
				left "${family}tables table $table" 'its KUBE and FLANNEL chains could not be removed'
			fi
		fi
	done
	if command -v nft >/dev/null 2>&1 && nft delete table $family kube-proxy 2>/dev/null; then did "nftables table $family kube-proxy"; fi
done

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
	remove "$kubelet"/pki "$kubelet"/pods "$kubelet"/plugins "$kubelet"/plugins_registry "$kubelet"/pod-resources \
		"$kubelet"/device-plugins "$kubelet"/checkpoints "$kubelet"/usernamespaces "$kubelet"/images "$kubelet"/image_manager \
		"$kubelet"/*_manager_state "$kubelet"/*_pods_state "$kubelet"/.checkpoint* "$kubelet"/kubelet.sock \
		/var/log/pods /var/log/containers
fi
if ours directory "$etcd_data"; then remove "$etcd_data/member"; fi
if [ "$has_containerd" ]; then
	remove "$containerd"/io.containerd.* "$containerd/tmpmounts" /run/containerd
	remove /etc/cni/net.d/10-flannel.conflist /var/lib/cni/networks /var/lib/cni/results /var/lib/cni/cache /var/lib/cni/flannel \
		/run/flannel
	for namespace in /run/netns/cni-*; do remove "$namespace"; done
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
	printf '%s\n' /etc/kubernetes "$kubelet" "$containerd" /etc/cni /opt/cni /var/lib/cni /etc/containerd
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

remove "$state/blobs" "$state/placed" "$state/units"
for entry in "$state"/.[!.]*; do
	case $entry in */.receipt) remove "$entry" ;; esac
done
rm -f -- "$receipt" || die "cannot remove $receipt"
rmdir -- "$state" 2>/dev/null
did "$receipt"
