# Why a control plane does not come up: evidence from the machine's own files and journal. Prefixed to scripts by
# bootstrap/diagnosis.py, which reads what `evidence` writes: lines of fields parted by tabs. Changes nothing.
# Given: $components in the order in which they come up, $known and $certain (regular expressions of log lines), $ctr.
logs=/var/log
cri=/var/lib/containerd/io.containerd.grpc.v1.cri/containers
manifests=/etc/kubernetes/manifests
seen=$0.seen # what one look leaves for the next: in the batch's own folder, gone with it

# The containers of component $1, oldest first: created, finished (0 while it runs), exit code, id, log. Those that ended
# or started before the manifest was last changed are of a Pod that is no more.
# crictl is not at hand; containerd keeps this in its files, and the kubelet's links to the logs name the containers.
containers() {
	for link in "$logs/containers/$1-"*"_kube-system_$1-"*.log; do
		[ -L "$link" ] || continue
		id=${link%.log}
		id=${id##*-}
		if [ "$manifests/$1.yaml" -nt "$cri/$id/status" ]; then continue; fi
		state=$(sed -n 's/.*"CreatedAt":\([0-9]*\),.*"FinishedAt":\([0-9]*\),"ExitCode":\(-\{0,1\}[0-9]*\).*/\1 \2 \3/p' "$cri/$id/status" 2>/dev/null)
		[ -z "$state" ] || printf '%s %s %s\n' "$state" "$id" "$(readlink "$link")"
	done | sort -n
}

kubelet_state() { systemctl show -p ActiveState,SubState,NRestarts,ExecMainStatus,ActiveEnterTimestamp kubelet 2>/dev/null; }
value() { printf '%s\n' "$2" | sed -n "s/^$1=//p"; }

# From when on exits count, in seconds: not those of before the kubelet's start, nor old ones.
watched_from() {
	[ -f "$seen.since" ] || date +%s >"$seen.since"
	since=$(($(cat "$seen.since") - 60))
	started=$(date -d "$(value ActiveEnterTimestamp "$(kubelet_state)")" +%s 2>/dev/null || echo 0)
	[ "$started" -gt "$since" ] && since=$started
	[ -f "$seen.restarts" ] || value NRestarts "$(kubelet_state)" >"$seen.restarts"
	age=$(($(date +%s) - $(cat "$seen.since")))
}

# What container log file $1 says, without the runtime's prefix.
content() { tail -n 2000 -- "$1" 2>/dev/null | cut -d ' ' -f 4- | cut -c 1-1000; }
kubelet_log() { journalctl -q --no-pager -o cat -u kubelet --since "@$since" -n 3000 2>/dev/null | cut -c 1-1000; }

image_of() { sed -n 's/^ *image: *//p' "$manifests/$1.yaml" 2>/dev/null | tr -d "\"'" | head -n 1; }
lacks_image() { # component
	wanted=$(image_of "$1")
	[ -n "$wanted" ] && present=$(timeout 20 "$ctr" -n k8s.io images ls -q 2>/dev/null) && ! printf '%s\n' "$present" | grep -q -x -F -e "$wanted"
}

# Sets $exits: how often the newest Pod of component $1 has been seen to end with a failure; and $last, its last container.
count_exits() {
	all=$(containers "$1")
	last=$(printf '%s\n' "$all" | tail -n 1)
	pod=$(printf '%s\n' "${last##* }" | sed 's,/[^/]*/[^/]*$,,')
	: >>"$seen"
	printf '%s\n' "$all" | awk -v since="$since" -v pod="$pod/" '
		$2 > 0 && $3 != 0 && $2 / 1e9 >= since && index($5, pod) == 1 { print $4, pod }' | while read -r line; do
		grep -q -x -F -e "$line" "$seen" || printf '%s\n' "$line" >>"$seen"
	done
	exits=$(grep -c -F -e " $pod/" "$seen")
}
ended() { [ -n "$last" ] && [ "$(printf '%s\n' "$last" | cut -d ' ' -f 2)" != 0 ]; }

# Whether to look again. Looking starts a hundred programs, and the machine has a control plane to start.
due() {
	looked=
	read -r now _ </proc/uptime
	if [ -f "$seen.looked" ]; then read -r looked <"$seen.looked"; fi
	if [ -n "$looked" ] && [ "$((${now%.*} - looked))" -lt 4 ]; then return 1; fi
	echo "${now%.*}" >"$seen.looked"
}

# One look of a wait: exits 0 where `ask` does, 2 where waiting on is in vain, else 1.
look() {
	despairs=
	said=$(glance) || { due && despairs=yes; } || {
		printf '%s\n' "$said"
		exit 1
	}
	said=$(ask) && exit 0
	printf '%s\n' "$said"
	[ -n "$despairs" ] || due || exit 1
	despair "$said"
}

# Who listens on TCP port $1, as in preflight.sh: port, pid, program.
holders() {
	awk -v port="$(printf ':%04X' "$1")" '
		$4 == "0A" && substr($2, length($2) - 4) == port { print "socket:[" $10 "]" }' /proc/net/tcp /proc/net/tcp6 2>/dev/null |
		sort -u | while read -r socket; do
		pid=$(ls -l /proc/[0-9]*/fd /dev/null 2>/dev/null | awk -v socket="$socket" '
			/^\// { pid = $0; sub(/\/fd:$/, "", pid); sub(/.*\//, "", pid) }
			$NF == socket { print pid; exit }')
		printf 'port\t%s\t%s\t%s\n' "$1" "${pid:-?}" "$(cat "/proc/${pid:-none}/comm" 2>/dev/null)"
	done
}

# The ports that log file $1 tells were taken.
missed_ports() { content "$1" | sed -n 's/.*listen tcp[46]* [^ ]*:\([0-9]*\): bind: address already in use.*/\1/p' | sort -u; }

# Whether all that kept component $1 (log file $2) from its ports is gone, or its own former process, which takes its
# time to stop.
ports_come_free() {
	missed=$(missed_ports "$2")
	[ -n "$missed" ] || return 1
	for port in $missed; do
		if holders "$port" | awk -F '\t' -v own="$1" '
			$4 == "" || index(own, $4) != 1 { foreign = 1 } END { exit !foreign }'; then return 1; fi
	done
}

# Exits 2, naming the component, where waiting on is in vain. $1: what was said last about what does not answer.
# A failed start is normal while something it depends on is late: it takes two, with a reason that does not pass, or
# three of a component whose dependencies all answer ($1 names the first in order that does not).
despair() {
	watched_from
	state=$(kubelet_state)
	case $(value ActiveState "$state")/$(value SubState "$state") in
	failed/*) guilty kubelet ;;
	activating/auto-restart) [ "$(($(value NRestarts "$state") - $(cat "$seen.restarts")))" -lt 2 ] || guilty kubelet ;;
	esac
	# Who answers with a certificate that is not valid goes on so. A minute, as it is reloaded when it is replaced.
	case $1 in *x509:*) [ "$age" -lt 60 ] || guilty "${1%% *}" ;; esac
	for component in $components; do
		count_exits "$component"
		if ended; then
			if ports_come_free "$component" "${last##* }"; then continue; fi
			[ "$exits" -lt 2 ] || ! content "${last##* }" | grep -E -q -e "$certain" || guilty "$component"
			case $1 in "$component "*) [ "$exits" -lt 3 ] || guilty "$component" ;; esac
		elif [ -z "$last" ] && [ "$age" -ge 5 ] && [ -f "$manifests/$component.yaml" ]; then
			if lacks_image "$component"; then
				tries=$(kubelet_log | grep -E -c "StartContainer.*for ..?$component..? with (Err)?Image")
				[ "$tries" -lt 2 ] || guilty "$component"
			else
				tries=$(kubelet_log | grep -E 'Sandbox' | grep -F -e "$component" | grep -E -c -e "$certain")
				[ "$tries" -lt 3 ] || guilty "$component"
			fi
		fi
	done
	exit 1
}
guilty() {
	printf 'guilty\t%s\n' "$1"
	exit 2
}

# The lines of a log that say most: what the table knows and errors, or the last; no line twice but for its time.
telling() { # name limit
	cut -c 1-500 | tr '\t' ' ' | known="$known" awk -v name="$1" -v limit="$2" '
		function bare(line) { gsub(/[0-9]+/, "", line); return line }
		/^[[:space:]]*$/ { next }
		$0 ~ ENVIRON["known"] || /^[EF][0-9][0-9][0-9][0-9] / || /"level":"(error|fatal|panic)"/ || /^(Error|panic|fatal)/ || /level=(error|fatal)/ {
			kept[++count] = $0
			next
		}
		{ other = $0 }
		END {
			for (i = count; i > 0 && told < limit; i--) if (!(bare(kept[i]) in had)) { had[bare(kept[i])] = 1; order[++told] = kept[i] }
			for (i = told; i > 0; i--) print "log\t" name "\t" order[i]
			if (other != "" && told == 0) print "log\t" name "\t" other
		}'
}

# Without what every kubelet says while there is no API server or network: of a control plane that explains nothing.
quiet() {
	if [ -z "$components" ]; then cat; return; fi
	grep -v -E 'etwork.*not ready|NetworkPluginNotReady|cni plugin not initialized|dial tcp.*connection refused|nable to register node|node "?[^ ]*"? not found|Failed to ensure lease|Housekeeping took|Eviction manager|failed to get node|mirror pod|Failed to get status for pod|Unable to write event|[Cc]ontainer(Status|.*not found)'
}

evidence() {
	watched_from
	state=$(kubelet_state)
	printf 'unit\tkubelet\t%s\t%s\t%s\t%s\n' "$(value ActiveState "$state")" "$(value SubState "$state")" "$(value NRestarts "$state")" "$(value ExecMainStatus "$state")"
	printf 'unit\tcontainerd\t%s\n' "$(systemctl is-active containerd)"
	for component in $components; do
		count_exits "$component"
		# shellcheck disable=SC2086
		set -- $last
		if [ -z "$last" ]; then
			printf 'component\t%s\tabsent\n' "$component"
			if lacks_image "$component"; then printf 'image\t%s\t%s\n' "$component" "$wanted"; fi
			kubelet_log | grep -F -e "$component" | quiet | telling "$component" 3
		elif [ "$2" = 0 ]; then
			printf 'component\t%s\trunning\t\t%s\n' "$component" "$exits"
			content "$5" | telling "$component" 4
		else
			printf 'component\t%s\texited\t%s\t%s\t%s\n' "$component" "$3" "$exits" "$5"
			content "$5" | telling "$component" 6
			for port in $(missed_ports "$5"); do holders "$port"; done
		fi
	done
	df -P -k /var /var/lib/etcd /var/lib/kubelet /var/lib/containerd 2>/dev/null | awk 'NR > 1 && ($5 + 0 >= 98 || $4 < 131072) { print "disk\t" $6 "\t" int($4 / 1024) "\t" $5 }' | sort -u
	kubelet_log | quiet | telling kubelet 6
	journalctl -q --no-pager -o cat -u containerd --since "@$since" -n 500 2>/dev/null | quiet | telling containerd 3
}

# Succeeds where a component ended while this kubelet ran, and has not been changed since: its next start is put off,
# for up to five minutes. A kubelet that is started anew knows nothing of that, and starts it at once.
held_back() {
	started=$(date -d "$(value ActiveEnterTimestamp "$(kubelet_state)")" +%s 2>/dev/null) || return 1
	for component in $components; do
		last=$(containers "$component" | tail -n 1)
		# shellcheck disable=SC2086
		set -- $last
		[ -n "$last" ] && [ "$2" != 0 ] && [ "$3" != 0 ] || continue
		case ${5##*/} in 0.log) continue ;; esac
		[ "$(($2 / 1000000000))" -gt "$started" ] && return 0
	done
	return 1
}
