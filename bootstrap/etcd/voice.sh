# Asks the etcd member of this machine for what it tells without a leader, and changes nothing. Read by
# bootstrap/etcd/quorum.py: lines of fields parted by tabs. A member that was started without a quorum serves no client,
# but it answers its peers and serves its metrics. Of POSIX sh, sed and kubectl, which is on every machine.
set -u
PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
DISABLE_HTTP2=1 # kubectl's: etcd offers it to peers, and then does not speak it
export PATH DISABLE_HTTP2
manifest=/etc/kubernetes/manifests/etcd.yaml
pki=/etc/kubernetes/pki/etcd
if ! [ -f "$manifest" ]; then exit 64; fi
flag() { sed -n "s/^ *- *[\"']\{0,1\}--$1=\([^,\"' ]*\).*/\1/p" "$manifest" | tail -n 1; }

if [ -d "$(flag data-dir)/member/wal" ]; then printf 'data\tyes\n'; fi
members=$(timeout -k 2 8 kubectl --kubeconfig /dev/null --request-timeout 5s --server "$(flag listen-peer-urls)" \
	--certificate-authority "$pki/ca.crt" --client-certificate "$pki/peer.crt" --client-key "$pki/peer.key" \
	get --raw /members) || exit 1
printf 'members\t%s\n' "$members"
metrics=$(flag listen-metrics-urls)
case $metrics in http://0.0.0.0:*) metrics=http://127.0.0.1:${metrics##*:} ;; esac
timeout -k 2 8 kubectl --kubeconfig /dev/null --request-timeout 5s --server "$metrics" get --raw /metrics | sed -n \
	-e 's/^etcd_server_has_leader \(.*\)/leader\t\1/p' \
	-e 's/^etcd_server_proposals_committed_total \(.*\)/committed\t\1/p' \
	-e 's/^etcd_server_id{server_id="\([^"]*\)"} .*/id\t\1/p'
