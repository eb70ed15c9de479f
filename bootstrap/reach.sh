# Sends datagrams to other machines, or counts those that came. bootstrap/reach.py puts assignments in front, appends the
# calls, and reads the answers:
#
#   unsent TAB target TAB why      nothing could be sent there
#   size TAB target TAB bytes      what filled the interface's MTU was sent, too
#   came TAB number                datagrams that came for ports on which nothing listens, since the machine started
#   taken                          somebody listens on the port by now
#
# Nothing is changed, and nothing is written. Needs POSIX sh, coreutils, awk, logger (util-linux), ip for sizes.
set -u
LC_ALL=C
PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH

datagrams() { logger --rfc3164 --size 70000 -t kubestrap -n "$1" -P "$port" -d; } # address; a line each

repeat() { # number text
	left=$1
	while [ "$left" -gt 0 ]; do
		printf '%s\n' "$2"
		left=$((left - 1))
	done
}

send() { # target address overhead small full
	if ! header=$(logger --no-act -s --rfc3164 -t kubestrap -n "$2" -P "$port" -d x 2>&1); then
		printf 'unsent\t%s\t%s\n' "$1" 'there is no logger of util-linux here that could send'
		return
	fi
	if ! said=$(repeat "$4" x | datagrams "$2" 2>&1); then
		printf 'unsent\t%s\t%s\n' "$1" "$(printf %s "$said" | tr '\n\t' '  ')"
		return
	fi
	interface=$(ip -o route get "$2" 2>/dev/null | sed -n 's/.* dev \([^ ]*\).*/\1/p')
	mtu=$(cat "/sys/class/net/${interface:-.}/mtu" 2>/dev/null) || return
	# A datagram of just this size leaves whole, and whoever cannot pass it on must not cut it.
	text=$(head -c "$((mtu - $3 - ${#header} + 1))" /dev/zero | tr '\0' x)
	repeat "$5" "$text" | datagrams "$2" 2>/dev/null && printf 'size\t%s\t%s\n' "$1" "$mtu"
}

came() {
	case $family in
	6) awk '$1 == "Udp6NoPorts" { print $2 }' /proc/net/snmp6 ;;
	*) awk '$1 == "Udp:" && $3 ~ /^[0-9]/ { print $3 }' /proc/net/snmp ;;
	esac
}

count() { # number that should have come by the end
	round=0
	while [ "$(came)" -lt "$1" ] && [ "$round" -lt 10 ]; do
		sleep 0.1
		round=$((round + 1))
	done
	printf 'came\t%s\n' "$(came)"
	if awk -v port=":$(printf %04X "$port")$" '$2 ~ port { found = 1 } END { exit !found }' /proc/net/udp /proc/net/udp6; then
		echo taken
	fi
}
