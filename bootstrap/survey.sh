# Looks at a machine before anything is planned, and changes nothing. Read by bootstrap/survey.py: lines of fields
# parted by tabs. Arguments: the paths whose contents are wanted; folders stand for the files in them. $etcd_data, which
# survey.py puts in front, is where the data of an etcd member without a manifest would be, if any.
LC_ALL=C
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
say() { printf '%s\t%s\n' "$1" "$2"; }

say architecture "$(uname -m)"
say hostname "$(uname -n)"
say machine "$(cat /etc/machine-id 2>/dev/null)"
ip -o addr show scope global 2>/dev/null | while read -r _ name _ address rest; do
	printf 'link\t%s\t%s\n' "$name" "$address"
	case $name in cni* | flannel* | docker* | podman* | virbr* | veth* | cali* | cilium* | kube-* | nodelocaldns*) continue ;; esac
	case " $rest " in *' deprecated '* | *' temporary '* | *' tentative '*) continue ;; esac
	say address "${address%/*}"
done
if systemctl -q is-active systemd-resolved 2>/dev/null && [ -f /run/systemd/resolve/resolv.conf ]; then say resolved yes; fi
# kubelet.conf is no sign of it: a kubelet writes that before it asks for its certificate.
if [ -s /var/lib/kubelet/pki/kubelet-client-current.pem ]; then say bootstrapped yes; fi
# Where a member keeps its log its own manifest tells best. It is what makes a member: one that is refused as it has none
# leaves all else behind.
flag() { sed -n "s/.*--$1=\([^\"' ]*\).*/\1/p" /etc/kubernetes/manifests/etcd.yaml 2>/dev/null | tail -n 1; }
if [ "${etcd_data:-}" ]; then
	data=$(flag data-dir)
	log=$(flag wal-dir)
	for file in "${log:-${data:-$etcd_data}/member/wal}"/*.wal; do
		if [ -e "$file" ]; then
			say etcd-data yes
			break
		fi
	done
fi
if [ -d /etc/kubernetes/recovery ]; then say recovering yes; fi
for folder in /etc/pki/ca-trust /etc/pki/tls/certs /etc/ca-certificates /usr/share/ca-certificates /usr/local/share/ca-certificates; do
	if [ -d "$folder" ]; then say ca-folder "$folder"; fi
done
for wanted; do
	find "$wanted" -type f -size -1024k 2>/dev/null | while read -r file; do
		printf 'file\t%s\t%s\n' "$file" "$(base64 -w 0 "$file")"
	done
done
say end ''
