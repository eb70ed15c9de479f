# Has one etcd member go on alone, with its own data or with a snapshot's, a part of it at a time.
# bootstrap/etcd/recovery.py puts assignments in front: $action and its values. Answers, fields parted by tabs:
#
#   manifest BASE64 | held yes | request WORD | data yes | kilobytes USED FREE   what was found (look)
#   replaced yes                                                                the new data are in place already (begin)
#   aside FOLDER                                                                where the former data went
#
# $request says from what the new data are: `survivor`, or the SHA-256 of a snapshot. What a killed run left is gone on
# with. Only whole data are ever at etcd's place: they are made beside it, on the same file system, and put there by
# renaming. The manifests wait in $held meanwhile, on their own file system, so that nothing starts by itself; as long
# as that folder is there, `init` and `join` refuse the machine. Needs POSIX sh, coreutils, ctr.
set -eu
umask 077
LC_ALL=C
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
manifests=/etc/kubernetes/manifests
held=/etc/kubernetes/recovery
work=$data/kubestrap-recovery
program=kubestrap-etcd-recovery
components='kube-apiserver kube-controller-manager kube-scheduler etcd'

fail() {
	printf '%s\n' "$1" >&2
	exit 1
}
say() { printf '%s\t%s\n' "$1" "$2"; }
write() { printf %s "$2" >"$1.part" && mv -f -- "$1.part" "$1"; }
content() { if [ -f "$1" ]; then cat -- "$1"; fi; }
ctr() { command ctr --namespace k8s.io "$@"; }

look() {
	for folder in "$manifests" "$held"; do
		if [ -f "$folder/etcd.yaml" ]; then
			say manifest "$(base64 -w 0 "$folder/etcd.yaml")"
			break
		fi
	done
	if [ -d "$held" ]; then say held yes; fi
	if [ -f "$held/request" ]; then say request "$(cat "$held/request")"; fi
	if [ -d "$data/member/wal" ] || [ -f "$work/ready" ]; then say data yes; fi
	if [ -d "$data" ]; then
		say kilobytes "$(du -sk "$data" | cut -f 1)	$(df -P -k "$data" | awk 'NR == 2 { print $4 }')"
	fi
}

# --- the Pods

# A kubelet that never saw its API server takes no static Pod away (kubelet.go, deletePod): it would start etcd again and
# again. So it stands still while what runs is ended, and begins anew, when the manifests are gone.
running() { # names
	for name; do
		ids=$(ctr containers ls -q "labels.\"io.kubernetes.pod.namespace\"==kube-system,labels.\"io.kubernetes.container.name\"==$name" | tr '\n' ' ')
		ctr tasks ls | awk -v ids="$ids" 'BEGIN { split(ids, all, " "); for (i in all) known[all[i]] = 1 }
			$3 == "RUNNING" && $1 in known { print $1 }'
	done
}
end() { # signal names
	signal=$1
	shift
	for id in $(running "$@"); do ctr tasks kill -s "$signal" "$id" || :; done
}
stop() {
	mkdir -p -- "$held"
	if [ "$request" ]; then write "$held/request" "$request"; fi
	trap 'systemctl start kubelet.service' EXIT
	systemctl stop kubelet.service
	for name in $components; do
		if [ -f "$manifests/$name.yaml" ]; then mv -f -- "$manifests/$name.yaml" "$held/$name.yaml"; fi
	done
	# Only etcd has something to bring to an end.
	end KILL kube-apiserver kube-controller-manager kube-scheduler
	end TERM etcd
	waited=0
	while left=$(running $components) && [ "$left" ]; do
		if [ "$waited" -eq 60 ]; then end KILL $components; fi
		[ "$waited" -lt 90 ] || fail "etcd and the API server still run ($left)"
		sleep 0.5
		waited=$((waited + 1))
	done
}
start() { # names
	for name; do
		if [ -f "$held/$name.yaml" ]; then mv -f -- "$held/$name.yaml" "$manifests/$name.yaml"; fi
	done
}

# --- the data

put_aside() {
	if [ -d "$data/member" ]; then
		mkdir -p -- "$aside"
		mv -- "$data/member" "$aside/member"
		say aside "$aside"
	fi
}
replace() {
	if [ -d "$work/data/member" ]; then
		put_aside
		mv -- "$work/data/member" "$data/member"
	fi
	write "$held/replaced" "$(cat "$work/ready")"
	rm -rf -- "$work"
}
begin() {
	drop
	if [ -f "$work/ready" ] && { [ "$(cat "$work/ready")" = "$request" ] || ! [ -d "$data/member" ]; }; then replace; fi
	if [ "$(content "$held/replaced")" = "$request" ]; then
		say replaced yes
		return
	fi
	rm -rf -- "$work"
	mkdir -p -- "$work"
}

# Programs of etcd's image run in a network of their own: nobody but us talks to them.
drop() {
	ctr tasks kill -s KILL "$program" 2>/dev/null || :
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		if ! ctr containers info "$program" >/dev/null 2>&1; then break; fi
		ctr tasks delete -f "$program" >/dev/null 2>&1 || :
		ctr containers delete "$program" >/dev/null 2>&1 || sleep 0.3
	done
	ctr snapshots rm "$program" >/dev/null 2>&1 || :
}
in_image() {
	command ctr --namespace k8s.io run --rm --mount "type=bind,src=$work,dst=$work,options=rbind:rw" "$image" "$program" "$@" </dev/null
}
within() {
	command ctr --namespace k8s.io tasks exec --exec-id "ask-$$-$turn" "$program" /usr/local/bin/etcdctl \
		--endpoints http://127.0.0.1:2379 --command-timeout 5s "$@" </dev/null
}

# etcd forgets all members but its own, once, on a copy: the flag stands in no manifest, and a run that is killed leaves
# the member's own data as they were.
force() {
	[ -d "$data/member/wal" ] || fail "there are no data of an etcd member in $data"
	mkdir -p -- "$work/data"
	cp -a -- "$data/member" "$work/data/member"
	in_image /usr/local/bin/etcd --data-dir "$work/data" --name "$member" --force-new-cluster \
		--initial-cluster "$member=$peer" --initial-advertise-peer-urls "$peer" --advertise-client-urls "$client" \
		--listen-peer-urls http://127.0.0.1:2380 --listen-client-urls http://127.0.0.1:2379 \
		--quota-backend-bytes=-1 >"$work/log" 2>&1 &
	etcd=$!
	turn=0
	until within endpoint health >/dev/null 2>&1; do
		turn=$((turn + 1))
		if ! kill -0 "$etcd" 2>/dev/null || [ "$turn" -gt 240 ]; then
			tail -n 3 "$work/log" >&2
			drop
			fail 'etcd does not start with its data'
		fi
		sleep 0.5
	done
	turn=$((turn + 1))
	[ "$(within member list | wc -l)" -eq 1 ] || fail 'etcd has more members than this one still'
	ctr tasks kill -s TERM "$program"
	wait "$etcd" || :
	drop
}
# What clients have seen since the snapshot was saved has higher revisions: they are passed over, and watchers are told
# to list anew (etcd's guide to disaster recovery).
restore() {
	in_image /usr/local/bin/etcdutl snapshot restore "$work/snapshot.db" --data-dir "$work/data" --name "$member" \
		--initial-cluster "$member=$peer" --initial-advertise-peer-urls "$peer" --initial-cluster-token "$token" \
		--bump-revision 1000000000 --mark-compacted >"$work/log" 2>&1 || {
		tail -n 3 "$work/log" >&2
		fail 'the snapshot could not be restored'
	}
}

case $action in
look) look ;;
stop) stop ;;
begin) begin ;;
make)
	if [ "$request" = survivor ]; then force; else restore; fi
	sync
	write "$work/ready" "$request"
	replace
	;;
etcd) start etcd ;;
rest)
	start $components
	rm -rf -- "$held"
	;;
empty)
	put_aside
	if [ -d "$aside" ]; then cp -- "$held"/*.yaml "$aside/" 2>/dev/null || :; fi
	rm -rf -- "$work" "$held"
	;;
esac
